# The Toxiproxy that the local stack builds, from the same go.mod and go.sum: Go verifies the hashes.
FROM golang:1.24-alpine AS build
WORKDIR /src
COPY loadtests/stack/toxiproxy/go.mod loadtests/stack/toxiproxy/go.sum loadtests/stack/toxiproxy/tools.go ./
ARG VERSION=2.12.0
RUN CGO_ENABLED=0 go build -mod=readonly -trimpath -buildvcs=false \
    -ldflags "-s -w -X github.com/Shopify/toxiproxy/v2.Version=${VERSION}" \
    -o /toxiproxy-server github.com/Shopify/toxiproxy/v2/cmd/server

# Alpine, not scratch: the health check asks with its wget.
FROM alpine:3.21
COPY --from=build /toxiproxy-server /usr/local/bin/toxiproxy-server
COPY docker/toxiproxy.json /etc/toxiproxy.json
USER 65534:65534
CMD ["toxiproxy-server", "-host", "0.0.0.0", "-port", "8474", "-config", "/etc/toxiproxy.json"]
