# One image with all binaries; build them first: `make build`.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY target/release/tundish target/release/tundish-operator target/release/tundish-proxy /usr/local/bin/
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/tundish"]
