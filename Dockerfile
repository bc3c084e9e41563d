# syntax=docker/dockerfile:1
# The binary `tidings` in an image that holds nothing else to speak of: the C library, a shell for the health check,
# and the certificates that webhooks are sent with.

FROM rust:1.95.0-slim-bookworm AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --package gateway --bin tidings && \
    cp target/release/tidings /usr/local/bin/tidings

FROM debian:bookworm-slim
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /usr/local/bin/tidings /usr/local/bin/tidings
COPY deploy/healthy.sh /usr/local/bin/healthy
RUN install -d -m 0700 -o 10001 -g 10001 /var/lib/tidings
USER 10001:10001
WORKDIR /var/lib/tidings
ENV TIDINGS_DATA=/var/lib/tidings \
    TIDINGS_LISTEN=0.0.0.0:8080 \
    TIDINGS_OPERATOR_LISTEN=0.0.0.0:9090
EXPOSE 8080 9090
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=5s --start-period=30s --retries=6 CMD ["healthy"]
ENTRYPOINT ["tidings"]
CMD ["serve"]
