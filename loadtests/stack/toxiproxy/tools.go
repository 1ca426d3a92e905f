//go:build tools

// Package tools names the program that is built here, so that go.mod and go.sum cover all that it needs.
package tools

import _ "github.com/Shopify/toxiproxy/v2/cmd/server"
