# The service in an image of its own: the binary, ONNX Runtime beside it, the rules and the model of this repository.
#   docker build --tag verdict .
#   docker run --publish 127.0.0.1:8080:8080 --volume verdict:/data --volume ./verdict.toml:/etc/verdict/verdict.toml:ro verdict
# In verdict.toml are the API keys, without which it listens on no address but its own loopback.
FROM rust:1.95.0-bookworm AS build
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends \
    python3 python3-pip libssl-dev pkg-config
WORKDIR /build
COPY . .
RUN python3 tests/scripts/onnxruntime.py && mv .cache/onnxruntime/*/libonnxruntime.so . \
    && cargo build --locked --release -p verdict

FROM debian:12.11-slim
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends ca-certificates libssl3 && rm -rf /var/lib/apt/lists/* \
    && useradd --system --home-dir /data verdict && install --directory --owner=verdict --mode=0700 /data
COPY --from=build /build/target/release/verdict /build/libonnxruntime.so /opt/verdict/
COPY rules /opt/verdict/rules
COPY models/default /opt/verdict/models/default
WORKDIR /opt/verdict
USER verdict
VOLUME /data
EXPOSE 8080
ENTRYPOINT ["/opt/verdict/verdict"]
CMD ["serve", "--config", "/etc/verdict/verdict.toml", "--listen", "0.0.0.0:8080", "--data-dir", "/data"]
