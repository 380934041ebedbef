# syntax=docker/dockerfile:1
# The one binary on a slim Debian:
#   docker build -t registry.example.com/seen:0.1.0 .
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
# The caches outlive a build, so what is kept is copied out of them.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin seen \
    && objcopy --strip-debug target/release/seen /seen

FROM debian:bookworm-slim
# What the binary is linked with (librdkafka's TLS, zlib), and whom it trusts.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates libssl3 zlib1g \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /seen /usr/local/bin/seen
# By number, so that runAsNonRoot can be checked.
USER 65532:65532
WORKDIR /tmp
# The gRPC API, the admin API, metrics and probes, the link of a replica.
EXPOSE 7420 7421 7422 7430
ENTRYPOINT ["/usr/local/bin/seen"]
CMD ["serve"]
