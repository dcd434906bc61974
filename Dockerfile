# Two stages: what builds stays behind. Any Debian-based image with Node 20.19 or newer serves as a base; the second
# stage runs no shell command, so its base may have no shell:
#   docker build --build-arg BASE_IMAGE=node:22-slim -t ephor .
#   docker run -p 8460:8460 -v ephor-data:/data -e EPHOR_ISSUER=https://sts.example.com \
#     -e DATABASE_URL_FILE=/run/secrets/database ephor
# Without DATABASE_URL the bundled PostgreSQL keeps its files in /data: one container per volume.
ARG BASE_IMAGE=node:22-slim
ARG RUNTIME_IMAGE=${BASE_IMAGE}

FROM ${BASE_IMAGE} AS build
WORKDIR /build
COPY package.json package-lock.json .npmrc ./
# No package needs its install script: the starter of the bundled PostgreSQL makes the links that one of them would.
RUN npm ci --ignore-scripts
COPY tsconfig.json tsconfig.build.json ./
COPY src ./src
RUN npm run build && npm prune --omit=dev --ignore-scripts
# PostgreSQL looks its account up by number, so the number needs a name.
RUN mkdir -p /image/etc /image/data \
  && { cat /etc/passwd; echo "ephor:x:10001:10001:Ephor:/data:/usr/sbin/nologin"; } > /image/etc/passwd \
  && { cat /etc/group; echo "ephor:x:10001:"; } > /image/etc/group \
  && chmod 0711 /image/data

FROM ${RUNTIME_IMAGE}
COPY --from=build /image/etc/passwd /image/etc/group /etc/
COPY --from=build --chown=10001:10001 /image/data /data
WORKDIR /app
COPY --from=build /build/node_modules ./node_modules
COPY --from=build /build/dist ./dist
COPY package.json LICENSE ./
COPY migrations ./migrations
COPY openapi ./openapi
COPY scripts/ephor.mjs ./scripts/ephor.mjs
ENV NODE_ENV=production EPHOR_DATA=/data EPHOR_LISTEN=0.0.0.0:8460
USER 10001:10001
VOLUME ["/data"]
EXPOSE 8460
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
  CMD ["node", "-e", "fetch('http://127.0.0.1:8460/livez').then((r) => process.exit(r.ok ? 0 : 1), () => process.exit(1))"]
# Node is process 1: it gets SIGTERM itself and finishes what it accepted.
ENTRYPOINT ["node", "/app/scripts/ephor.mjs"]
CMD ["serve"]
