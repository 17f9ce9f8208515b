# Programs of Debian's packages and npm in place of the images that compose.yaml names: the same
# commands, users, folders and ports.
ARG BASE
FROM ${BASE} AS programs
# hadolint ignore=DL3008,DL3009
RUN apt-get update && apt-get -o Dpkg::Options::=--force-unsafe-io install -y --no-install-recommends \
    busybox nodejs postgresql prometheus prometheus-alertmanager prometheus-pushgateway \
    && ln -s busybox /usr/bin/wget

FROM programs AS postgres
ENV PGDATA=/var/lib/postgresql/data PATH=/usr/lib/postgresql/15/bin:${PATH}
RUN mkdir -p /var/lib/postgresql/data && chown postgres /var/lib/postgresql/data
COPY postgres.sh /
USER postgres
ENTRYPOINT ["sh", "/postgres.sh"]

FROM programs AS azurite
COPY node_modules /opt/node_modules
ENV PATH=/opt/node_modules/.bin:${PATH}

FROM programs AS pushgateway
RUN mkdir /pushgateway && chown nobody:nogroup /pushgateway
WORKDIR /pushgateway
USER 65534
ENTRYPOINT ["prometheus-pushgateway"]

FROM programs AS alertmanager
RUN mkdir /alertmanager && chown nobody:nogroup /alertmanager
WORKDIR /alertmanager
USER 65534
ENTRYPOINT ["prometheus-alertmanager"]

FROM programs AS prometheus
RUN mkdir -p /prometheus && chown nobody:nogroup /prometheus
WORKDIR /prometheus
USER 65534
ENTRYPOINT ["prometheus"]
CMD ["--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus"]
