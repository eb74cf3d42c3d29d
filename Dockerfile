# The program alone: no shell, no package manager, no library that it would have to load.
#
#     docker build --tag mamparo .
#     docker run --rm mamparo demo --for 10s
#     docker run --volume "$PWD/config/example.yaml:/etc/mamparo/mamparo.yaml:ro" --network host mamparo
#
# The program that deploy/build makes takes a fifth less processor time. To ship that one instead of compiling here:
#
#     RUSTFLAGS="-C target-feature=+crt-static" deploy/build
#     docker build --build-context program=target/shipped --tag mamparo .

FROM rust:1.95-bookworm AS build
WORKDIR /build

# Everything that others have written, in a layer of its own: it changes with Cargo.lock, not with every line of ours.
# What is built here is an empty program with our dependencies.
COPY Cargo.toml Cargo.lock ./
COPY .cargo .cargo
COPY benches/instructions/Cargo.toml benches/instructions/
RUN mkdir -p src benches/peers \
    && for file in src/main benches/decision benches/peers/floor benches/peers/steady benches/instructions/main; do \
        printf '//! Empty.\nfn main() {}\n' > "$file.rs"; \
    done \
    && echo '//! Empty.' > src/lib.rs

# `release` takes minutes: one unit of code, optimised across all libraries. `dev` is for whoever only wants to know
# that it builds.
ARG PROFILE=release
RUN cargo build --locked --profile "$PROFILE"

COPY src src
# What the empty program was made from is older than this.
RUN touch src/main.rs src/lib.rs \
    # Linked with all that it needs: what the image is based on then has nothing that could be missing or outdated.
    && cargo rustc --locked --profile "$PROFILE" --bin mamparo -- -C target-feature=+crt-static -C strip=symbols \
    # The folder is named after the profile, but for `dev`.
    && cp "${CARGO_TARGET_DIR:-target}"/*/mamparo /mamparo

# A stage that `--build-context program=FOLDER` takes the place of.
FROM scratch AS program
COPY --from=build /mamparo /mamparo

# Nothing else: the certificates of public authorities are part of the program.
FROM scratch
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="mamparo" \
      org.opencontainers.image.description="A resilience sidecar: timeouts, retries, circuit breakers, bulkheads and fallbacks for any service, from YAML" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=program /mamparo /usr/local/bin/mamparo
ENV PATH=/usr/local/bin
USER 65532:65532
# Drains: see runtime.drain.
STOPSIGNAL SIGTERM
# Where admin.address is another one, set MAMPARO_ADMIN_ADDRESS: it is for the program and the probe alike.
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s --retries=3 \
    CMD ["/usr/local/bin/mamparo", "probe", "--timeout", "2s"]
ENTRYPOINT ["/usr/local/bin/mamparo"]
CMD ["run", "--config", "/etc/mamparo"]
