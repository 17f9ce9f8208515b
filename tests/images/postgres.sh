# What the official image does at its first start: a cluster whose user has a password, then the
# files of /docker-entrypoint-initdb.d, over the socket alone; then the server.
set -eu
if [ ! -s "$PGDATA/PG_VERSION" ]; then
	printf %s "$POSTGRES_PASSWORD" > /tmp/password
	initdb --no-sync --username="$POSTGRES_USER" --pwfile=/tmp/password --auth=scram-sha-256
	rm /tmp/password
	echo "host all all all scram-sha-256" >> "$PGDATA/pg_hba.conf"
	export PGPASSWORD="$POSTGRES_PASSWORD"
	pg_ctl --wait --options="-c listen_addresses=" start
	for file in /docker-entrypoint-initdb.d/*.sql; do
		psql --username="$POSTGRES_USER" --dbname=postgres --file="$file"
	done
	pg_ctl --wait stop
fi
exec postgres -c listen_addresses=*
