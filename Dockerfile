# One static binary in an empty image. Nothing here is bound to a processor.
FROM rust:1.95-slim-bookworm AS build
WORKDIR /build
# An explicit target keeps these flags away from build scripts, which must not be static.
ENV RUSTFLAGS="-C target-feature=+crt-static"

# The dependencies first, so that a change in src/ rebuilds only our crate. A member of the workspace that is not built
# must be there all the same.
COPY .cargo .cargo
COPY Cargo.toml Cargo.lock ./
COPY bench/Cargo.toml bench/
RUN mkdir -p src bench/src && echo 'fn main() {}' | tee src/main.rs bench/src/main.rs && touch src/lib.rs \
    && cargo build --release --locked -p lyftr --target "$(uname -m)-unknown-linux-gnu"

COPY ARCHITECTURE.md ./
COPY assets assets
COPY migrations migrations
COPY src src
RUN touch src/main.rs src/lib.rs \
    && cargo build --release --locked -p lyftr --target "$(uname -m)-unknown-linux-gnu" \
    && mkdir -p /image/data && cp "target/$(uname -m)-unknown-linux-gnu/release/lyftr" /image/

FROM scratch
COPY --from=build --chown=65532:65532 /image/ /
USER 65532:65532
ENV HOST=0.0.0.0 DATABASE_URL=sqlite:////data/app.db
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=5s --retries=3 CMD ["/lyftr", "healthcheck"]
ENTRYPOINT ["/lyftr"]
# https://specs.opencontainers.org/image-spec/annotations/; last, since it is another one for each commit.
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Lyftr" \
    org.opencontainers.image.description="A webhook inbox that answers 200 only when a message is on disk exactly once." \
    org.opencontainers.image.version="0.1.0" \
    org.opencontainers.image.revision="$REVISION" \
    org.opencontainers.image.licenses="MIT" \
    org.opencontainers.image.source="https://github.com/lyftr/lyftr" \
    org.opencontainers.image.documentation="https://github.com/lyftr/lyftr/blob/main/docs/operations.md"
