import { z } from "zod";
import {
  jwksShape,
  resourceMetadata as resourceMetadataShape,
  serverMetadata as serverMetadataShape,
} from "../../api/metadata.ts";
import { oauthErrorShape } from "../../api/oauth-token.ts";
import { ProblemError } from "../../api/problem.ts";
import { objectName } from "../../api/scalars.ts";
import { LIMITS } from "../limits.ts";
import { openIdConfiguration, resourceMetadata, serverMetadata } from "../metadata.ts";
import { EPHOR_ACTIONS } from "../rooms.ts";
import { ok, route } from "../route.ts";
import type { Route } from "../route.ts";

/**
 * Public documents: anybody may keep them for a while, and a page in a browser may read them, as MCP clients there must.
 * A key is published before its first use for longer than this.
 */
const PUBLIC = {
  "Cache-Control": `public, max-age=${LIMITS.metadataMaxAgeSeconds}`,
  "Access-Control-Allow-Origin": "*",
} as const;

/** Kinds of resources that we serve ourselves, by the first segment of their identifier's path. */
const SERVED = z.enum(["mcp", "http", "credentials"]);

/** Metadata of the server and its keys (RFC 8414, OpenID Discovery, RFC 7517, RFC 9728). */
export const metadataRoutes: readonly Route[] = [
  route({
    method: "GET",
    path: "/.well-known/oauth-authorization-server",
    operationId: "getServerMetadata",
    summary: "Authorization server metadata (RFC 8414)",
    tag: "Metadata",
    auth: "none",
    responses: { 200: { description: "The metadata.", body: serverMetadataShape } },
    handle: ({ house }) => ok(serverMetadata(house), PUBLIC),
  }),
  route({
    method: "GET",
    path: "/.well-known/openid-configuration",
    operationId: "getOpenIdConfiguration",
    summary: "The same, for those that look for an OpenID provider",
    tag: "Metadata",
    auth: "none",
    responses: { 200: { description: "The metadata.", body: serverMetadataShape } },
    handle: ({ house }) => ok(openIdConfiguration(house), PUBLIC),
  }),
  route({
    method: "GET",
    path: "/.well-known/jwks.json",
    operationId: "getTokenKeys",
    summary: "Public keys of our tokens",
    tag: "Metadata",
    auth: "none",
    responses: { 200: { description: "The next, the active and lately retired keys.", body: jwksShape } },
    handle: async ({ rooms }) => ok(await rooms.keys.jwks(), PUBLIC),
  }),
  route({
    method: "GET",
    path: "/.well-known/ephor-record-keys",
    operationId: "getRecordKeys",
    summary: "Public keys of receipts, feed frames and audit heads",
    tag: "Metadata",
    auth: "none",
    responses: { 200: { description: "All of them, for ever.", body: jwksShape } },
    handle: ({ rooms }) => ok(rooms.keys.recordJwks(), PUBLIC),
  }),
  route({
    method: "GET",
    path: "/.well-known/oauth-protected-resource/{kind}/{name}",
    operationId: "getResourceMetadata",
    summary: "Metadata of a resource behind our proxy, or of a credential (RFC 9728)",
    tag: "Metadata",
    auth: "none",
    params: z.strictObject({ kind: SERVED, name: objectName }),
    responses: {
      200: { description: "The metadata.", body: resourceMetadataShape },
      404: { description: "There is no such resource." },
    },
    handle({ params, rooms, house }) {
      const identifier = `${house.issuer}/${params.kind}/${params.name}`;
      const resource = rooms.registry.resourceByIdentifier(identifier);
      if (resource === undefined) throw new ProblemError("not_found");
      // The bare name asks for whatever is granted there (CONTRACT §5, scope).
      return ok(resourceMetadata(house.issuer, { identifier, name: resource.name, scopes: [resource.name] }), PUBLIC);
    },
  }),
  route({
    method: "GET",
    path: "/.well-known/oauth-protected-resource/v1",
    operationId: "getApiMetadata",
    summary: "Metadata of Ephor's own API (RFC 9728)",
    tag: "Metadata",
    auth: "none",
    responses: { 200: { description: "The metadata.", body: resourceMetadataShape } },
    handle({ house }) {
      const scopes = EPHOR_ACTIONS.map((action) => `ephor:${action}`);
      return ok(resourceMetadata(house.issuer, { identifier: `${house.issuer}/v1`, name: "ephor", scopes }), PUBLIC);
    },
  }),
  route({
    method: "GET",
    path: "/authorize",
    operationId: "authorize",
    summary: "Nobody signs in here",
    description:
      "Published because MCP clients refuse metadata without it. Always answers `unsupported_response_type`.",
    tag: "Metadata",
    auth: "none",
    responses: { 400: { description: "Always.", body: oauthErrorShape } },
    handle: () => ({
      status: 400,
      json: {
        error: "unsupported_response_type",
        error_description: "This server issues tokens by token exchange, client_credentials and jwt-bearer only.",
      },
    }),
  }),
];
