# syntax=docker/dockerfile:1
#
#   docker build --target proxy   --tag quorumbridge/proxy:0.1.0 .
#   docker build --target control --tag quorumbridge/control:0.1.0 .
#
# Both images hold Node, the C library it is linked to and one bundled file, the proxy's with what V8 made of it: no
# shell, no package manager, no node_modules. They run as user 65532 and write nothing, so the root file system can be
# read-only.

FROM node:26-slim AS build
WORKDIR /src
COPY package.json package-lock.json .npmrc ./
RUN npm ci --ignore-scripts
COPY amqp amqp
COPY certs certs
COPY cli cli
COPY common common
COPY messaging messaging
COPY proxy proxy
COPY reconciler reconciler
COPY webhook webhook
COPY test/support/bundle.ts test/support/bundle.ts
RUN node test/support/bundle.ts dist

# The root file system of both images: node with exactly the shared libraries that the loader asks for, and what
# the C library reads to resolve names. chmod is for umasks that would keep user 65532 out.
FROM node:26-slim AS root
RUN set -eu; \
    mkdir -p /root-fs/etc /root-fs/usr/local/bin /root-fs/app /root-fs/tmp; \
    cp /usr/local/bin/node /root-fs/usr/local/bin/node; \
    ldd /usr/local/bin/node | grep -o '/[^ ]*' | sort -u | while read -r library; do \
      mkdir -p "/root-fs$(dirname "$library")"; \
      cp -L "$library" "/root-fs$library"; \
    done; \
    echo 'nonroot:x:65532:65532:nonroot:/:/sbin/nologin' > /root-fs/etc/passwd; \
    echo 'nonroot:x:65532:' > /root-fs/etc/group; \
    echo 'hosts: files dns' > /root-fs/etc/nsswitch.conf; \
    chmod -R a+rX /root-fs; \
    chmod 1777 /root-fs/tmp

FROM scratch AS base
COPY --from=root /root-fs/ /
COPY LICENSE /app/LICENSE
ENV NODE_ENV=production
USER 65532:65532
WORKDIR /app

# The sidecar: the arguments of the container are options of `quorumbridge proxy`.
FROM base AS proxy
LABEL org.opencontainers.image.title="quorumbridge proxy" org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /src/dist/proxy.cjs /src/dist/proxy.licenses.txt /app/
COPY --from=build /src/dist/cache /app/cache
ENV MALLOC_ARENA_MAX=1 NODE_COMPILE_CACHE=/app/cache NODE_COMPILE_CACHE_PORTABLE=1
EXPOSE 5672 5671 15695
# The cache holds for these flags; docs/tuning.md says what each is for.
ENTRYPOINT ["/usr/local/bin/node", "--expose-gc", "--max-semi-space-size=2", "--no-concurrent-recompilation", "/app/proxy.cjs", "proxy"]

# What runs beside the API server: the first argument is the command, `webhook` or `reconciler`.
FROM base AS control
LABEL org.opencontainers.image.title="quorumbridge control" org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /src/dist/control.mjs /src/dist/control.licenses.txt /app/
EXPOSE 9443 9080
ENTRYPOINT ["/usr/local/bin/node", "/app/control.mjs"]
