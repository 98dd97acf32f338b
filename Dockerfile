# syntax=docker/dockerfile:1.7
# clickmill in a container: built in the first stage, the program alone in the second.
#
#   docker build -t clickmill:0.1.0 .
FROM rust:1.95.0-slim-bookworm AS build
# zstd and ring are C and assembler; rustup adds the wasm target (cargo xtask build).
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev make \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /clickmill
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/clickmill/target \
    cargo xtask build \
    && strip -o /usr/local/bin/clickmill target/release/clickmill

FROM debian:12.10-slim
# 10001: no user of the machine's.
RUN groupadd --gid 10001 clickmill \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /data --shell /usr/sbin/nologin clickmill \
    && install -d -o clickmill -g clickmill -m 0750 /data
COPY --from=build /usr/local/bin/clickmill /usr/local/bin/clickmill
USER 10001:10001
# No folder of connectors here: the program's own, PostgreSQL and Redis, run. Mount one at /etc/clickmill/connectors to change that.
WORKDIR /etc/clickmill
ENV CLICKMILL_DATA_DIR=/data \
    CLICKMILL_LISTEN=0.0.0.0:8088
VOLUME /data
EXPOSE 8088
# Asks the host in this container; it answers with CLICKMILL_TOKEN, which it has from the same environment.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["clickmill", "status"]
# A stop commits and makes a checkpoint, within 5 s.
STOPSIGNAL SIGTERM
ENTRYPOINT ["clickmill"]
CMD ["run"]
