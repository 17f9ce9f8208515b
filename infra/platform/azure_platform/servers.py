"""MLflow, Prefect and Prefect's worker on Container Apps, with PostgreSQL, in a private network.

Declared where the stack's file names an `image`: the repository's own (infra/local/Dockerfile).
Nothing of it can be reached from outside the network, and no password exists: the servers log in to
PostgreSQL with tokens of their managed identity (entra_login/sitecustomize.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pulumi
from pulumi_azure_native import app, dbforpostgresql, managedidentity, network, privatedns

from azure_platform.place import Place, Text

LOGIN = Path(__file__).parents[1] / "entra_login/sitecustomize.py"
MOUNTED = "entra-login"
# Of a network that is connected to nothing else.
SPACE, APPS, DATABASE = "10.40.0.0/16", "10.40.0.0/23", "10.40.2.0/28"
# Cores and memory in the pairs that Container Apps allows.
SMALL, LARGE = (0.5, "1Gi"), (2.0, "4Gi")
PORTS = {"mlflow": 5000, "prefect": 4200}


def declare(
    place: Place, tenant: Text, image: str, login_server: Text, account: Text,
    users: Mapping[str, managedidentity.UserAssignedIdentity],
) -> None:  # fmt: skip
    """Declare the network, the database and the three apps.

    `account` is that of the stores; `users` has the identities `servers` and `worker`.
    """
    vnet = _network(place)
    server = _database(place, vnet, tenant, users["servers"])
    place.log("database", server.id)
    subnet = pulumi.Output.format("{0}/subnets/apps", vnet.id)
    environment = app.ManagedEnvironment(
        "apps", environment_name=place.name("apps"), resource_group_name=place.group_name,
        vnet_configuration=app.VnetConfigurationArgs(
            infrastructure_subnet_id=subnet, internal=True
        ),
        public_network_access=app.PublicNetworkAccess.DISABLED,
        # By diagnostic settings, and so without the key of the workspace of logs.
        app_logs_configuration=app.AppLogsConfigurationArgs(destination="azure-monitor"),
        workload_profiles=[
            app.WorkloadProfileArgs(name="Consumption", workload_profile_type="Consumption")
        ],
        tags=place.tags,
    )  # fmt: skip
    place.log("apps", environment.id)
    host, user = server.fully_qualified_domain_name, users["servers"].name
    urls = {name: pulumi.Output.format("https://{0}.internal.{1}", place.name("app", name),
                                       environment.default_domain) for name in PORTS}  # fmt: skip
    apps: dict[str, tuple[list[str], dict[str, Text], tuple[float, str]]] = {
        "mlflow": (
            ["mlflow", "server", "--host", "0.0.0.0", "--port", "5000", "--serve-artifacts",
             "--allowed-hosts", "*"],
            {"MLFLOW_BACKEND_STORE_URI":
                pulumi.Output.format("postgresql://{0}@{1}/mlflow?sslmode=require", user, host),
             "MLFLOW_ARTIFACTS_DESTINATION":
                pulumi.Output.format("wasbs://mlflow@{0}.blob.core.windows.net/", account),
             "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            SMALL,
        ),
        "prefect": (
            ["prefect", "server", "start", "--host", "0.0.0.0"],
            {"PREFECT_SERVER_DATABASE_CONNECTION_URL":
                pulumi.Output.format("postgresql+asyncpg://{0}@{1}/prefect?ssl=require", user,
                                     host)},
            SMALL,
        ),
        "worker": (
            ["python", "-m", "flows", "worker"],
            {"PREFECT_API_URL": pulumi.Output.format("{0}/api", urls["prefect"]),
             "MLFLOW_TRACKING_URI": urls["mlflow"], "AZURE_STORAGE_ACCOUNT": account},
            LARGE,
        ),
    }  # fmt: skip
    for name, (command, variables, size) in apps.items():
        identity = users["worker" if name == "worker" else "servers"]
        environ: dict[str, Text] = {"AZURE_CLIENT_ID": identity.client_id, **variables}
        if name != "worker":
            environ |= {"ENTRA_LOGIN_HOST": host, "PYTHONPATH": "/entra_login:/opt/mlops"}
        _app(place, name, environment, image, login_server, identity, command, environ, size)


def _network(place: Place) -> network.VirtualNetwork:
    """Declare a network with one subnet for the apps and one for the database."""
    vnet = network.VirtualNetwork(
        "network", virtual_network_name=place.name("network"),
        resource_group_name=place.group_name,
        address_space=network.AddressSpaceArgs(address_prefixes=[SPACE]),
        subnets=[
            network.SubnetArgs(
                name=name, address_prefix=prefix,
                delegations=[network.DelegationArgs(name=name, service_name=service)],
            )
            for name, prefix, service in (
                ("apps", APPS, "Microsoft.App/environments"),
                ("database", DATABASE, "Microsoft.DBforPostgreSQL/flexibleServers"),
            )
        ],
        tags=place.tags,
    )  # fmt: skip
    place.log("network", vnet.id)
    return vnet


def _database(
    place: Place, vnet: network.VirtualNetwork, tenant: Text,
    user: managedidentity.UserAssignedIdentity,
) -> dbforpostgresql.Server:  # fmt: skip
    """Declare PostgreSQL inside of the network, for Entra identities alone."""
    zone = privatedns.PrivateZone(
        "database", resource_group_name=place.group_name, location="global", tags=place.tags,
        private_zone_name=f"{place.settings.project}.private.postgres.database.azure.com",
    )  # fmt: skip
    link = privatedns.VirtualNetworkLink(
        "database", virtual_network_link_name="database", location="global",
        resource_group_name=place.group_name, private_zone_name=zone.name,
        registration_enabled=False, tags=place.tags,
        virtual_network=privatedns.SubResourceArgs(id=vnet.id),
    )  # fmt: skip
    server = dbforpostgresql.Server(
        "database", server_name=place.name("database"), resource_group_name=place.group_name,
        version=dbforpostgresql.PostgresMajorVersion.POSTGRES_MAJOR_VERSION_16,
        sku=dbforpostgresql.SkuArgs(name="Standard_B1ms", tier=dbforpostgresql.SkuTier.BURSTABLE),
        storage=dbforpostgresql.StorageArgs(storage_size_gb=32),
        auth_config=dbforpostgresql.AuthConfigArgs(
            active_directory_auth=dbforpostgresql.MicrosoftEntraAuth.ENABLED,
            password_auth=dbforpostgresql.PasswordBasedAuth.DISABLED, tenant_id=tenant,
        ),
        network=dbforpostgresql.NetworkArgs(
            delegated_subnet_resource_id=pulumi.Output.format("{0}/subnets/database", vnet.id),
            private_dns_zone_arm_resource_id=zone.id,
            public_network_access=dbforpostgresql.ServerPublicNetworkAccessState.DISABLED,
        ),
        backup=dbforpostgresql.BackupArgs(
            backup_retention_days=min(place.settings.retention_days, 35),
            geo_redundant_backup=dbforpostgresql.GeographicallyRedundantBackup.DISABLED,
        ),
        tags=place.tags, opts=pulumi.ResourceOptions(protect=True, depends_on=[link]),
    )  # fmt: skip
    # Whoever makes the tables must own them, and a role can only be made from inside the network.
    administrator = dbforpostgresql.Administrator(
        "servers", resource_group_name=place.group_name, server_name=server.name,
        object_id=user.principal_id, principal_name=user.name,
        principal_type=dbforpostgresql.PrincipalType.SERVICE_PRINCIPAL, tenant_id=tenant,
    )  # fmt: skip
    for name in PORTS:
        dbforpostgresql.Database(
            name, database_name=name, resource_group_name=place.group_name,
            server_name=server.name, charset="UTF8", collation="en_US.utf8",
            # The server changes one thing at a time.
            opts=pulumi.ResourceOptions(depends_on=[administrator], protect=True),
        )  # fmt: skip
    return server


def _app(
    place: Place, name: str, environment: app.ManagedEnvironment, image: str, login_server: Text,
    identity: managedidentity.UserAssignedIdentity, command: list[str],
    variables: Mapping[str, Text], size: tuple[float, str],
) -> None:  # fmt: skip
    """Declare one app: a single container, started once more when it ends."""
    port = PORTS.get(name)
    probe = app.ContainerAppProbeArgs(
        type=app.Type.STARTUP, period_seconds=10, failure_threshold=30,
        tcp_socket=app.ContainerAppProbeTcpSocketArgs(port=port),
    ) if port else None  # fmt: skip
    app.ContainerApp(
        name, container_app_name=place.name("app", name), resource_group_name=place.group_name,
        environment_id=environment.id, workload_profile_name="Consumption",
        identity=app.ManagedServiceIdentityArgs(
            type=app.ManagedServiceIdentityType.USER_ASSIGNED,
            user_assigned_identities=[identity.id],
        ),
        configuration=app.ConfigurationArgs(
            active_revisions_mode=app.ActiveRevisionsMode.SINGLE,
            # `external` is the network here: the environment itself is internal.
            ingress=app.IngressArgs(external=False, target_port=port, allow_insecure=False)
            if port else None,
            registries=[app.RegistryCredentialsArgs(server=login_server, identity=identity.id)],
            # Not a secret: this is how Container Apps takes a file.
            secrets=[app.SecretArgs(name=MOUNTED, value=LOGIN.read_text())],
        ),
        template=app.TemplateArgs(
            containers=[
                app.ContainerArgs(
                    name=name, image=image, command=command,
                    env=[app.EnvironmentVarArgs(name=key, value=value)
                         for key, value in variables.items()],
                    resources=app.ContainerResourcesArgs(cpu=size[0], memory=size[1]),
                    probes=[probe] if probe else None,
                    volume_mounts=[
                        app.VolumeMountArgs(volume_name=MOUNTED, mount_path="/entra_login")
                    ],
                )
            ],
            scale=app.ScaleArgs(min_replicas=1, max_replicas=1),
            volumes=[
                app.VolumeArgs(
                    name=MOUNTED, storage_type=app.StorageType.SECRET,
                    secrets=[app.SecretVolumeItemArgs(
                        secret_ref=MOUNTED, path="sitecustomize.py"
                    )],
                )
            ],
        ),
        tags=place.tags,
    )  # fmt: skip
