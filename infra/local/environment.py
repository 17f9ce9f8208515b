"""Print new passwords for compose.yaml, and the variables that point a program at its servers.

Both Compose and a shell read them: in single quotes, either takes a value as it is.
"""

from base64 import b64encode
from secrets import token_bytes, token_hex

key = b64encode(token_bytes(64)).decode()
print(f"""\
POSTGRES_PASSWORD='{token_hex(16)}'
GRAFANA_PASSWORD='{token_hex(16)}'
AZURITE_KEY='{key}'
# Who is told of alerts; infra/local/alertmanager.py says what there is for mail.
# ALERT_WEBHOOK_URL='https://'
MLFLOW_TRACKING_URI='http://127.0.0.1:5000'
PREFECT_API_URL='http://127.0.0.1:4200/api'
PROMETHEUS_PUSHGATEWAY='http://127.0.0.1:9091'
AZURE_STORAGE_CONNECTION_STRING='DefaultEndpointsProtocol=http;AccountName=mlops;AccountKey={key};\
BlobEndpoint=http://127.0.0.1:10000/mlops;'""")
