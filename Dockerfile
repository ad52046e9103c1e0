# One image with all binaries; build them first: `make build`.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY target/release/tundish target/release/tundish-operator target/release/tundish-proxy /usr/local/bin/
# glibc keeps up to 64 MiB for each thread of what large bodies held; mapped apart, it goes back at once.
ENV MALLOC_MMAP_THRESHOLD_=1048576
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/tundish"]
