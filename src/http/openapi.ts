import { z } from "zod";
import { components } from "../api/components.ts";
import { problemShape } from "../api/problem.ts";
import type { Auth, FormRoute, ResponseSpec, Route } from "./route.ts";

/** A JSON object of the document. */
type Json = { [name: string]: unknown };

/** Sections of the document, in the order of a first visit. */
const TAGS: readonly { name: string; description: string }[] = [
  { name: "OAuth", description: "Forms in, JSON out, errors by RFC 6749." },
  { name: "Tasks", description: "For agents: one originating request and all that is done for it." },
  { name: "Credentials", description: "Downstream credentials, made for one task and ended with it." },
  { name: "Approvals", description: "Calls through the proxy that wait for somebody's yes." },
  { name: "Secrets", description: "Sealed values: they go in and never come out." },
  { name: "Kill", description: "Revocation, effective everywhere when the call returns." },
  { name: "Shared Signals", description: "Kills for other products: OpenID SSF 1.0, CAEP 1.0, RFC 8935, RFC 8936." },
  { name: "Ledger", description: "What happened, and who is behind it." },
  {
    name: "Trust",
    description: "Issuers, agents, resources, grants, operators and channels: the same objects as in the trust file.",
  },
  { name: "Keys", description: "Our own signing keys." },
  { name: "Metadata", description: "Public documents by RFC 8414, RFC 9728 and OpenID Discovery." },
  { name: "Health", description: "For load balancers and Prometheus." },
  { name: "Documents", description: "This description." },
];

const problem = (description: string): ResponseSpec => ({
  description,
  body: problemShape,
  contentType: "application/problem+json",
});

/**
 * The OpenAPI 3.1 document, from the values that the edge serves and the shapes that it checks. Deterministic: the same
 * routes print the same bytes.
 *
 * @see https://spec.openapis.org/oas/v3.1.0
 */
export function openApiDocument(source: {
  version: string;
  routes: readonly Route[];
  forms: readonly FormRoute[];
}): Json {
  const schemas = createSchemas();
  const paths: Record<string, Json> = {};
  const add = (path: string, method: string, described: Json): void => {
    paths[path] = { ...paths[path], [method.toLowerCase()]: described };
  };
  for (const form of source.forms) add(form.path, form.method, formOperation(form, schemas));
  for (const route of source.routes) add(route.path, route.method, operation(route, schemas));
  return {
    openapi: "3.1.0",
    info: {
      title: "Ephor",
      version: source.version,
      summary:
        "Short-lived credentials for AI agents: a token service with delegation chains, a durable ledger and a kill switch.",
      description:
        "Members whose names end in `_at` are instants by RFC 3339; `deadline`, `iat` and `exp` are whole seconds since the epoch, as in tokens.",
      license: { name: "Apache-2.0", identifier: "Apache-2.0" },
    },
    servers: [{ url: "/" }],
    tags: TAGS,
    paths,
    components: { securitySchemes: SECURITY_SCHEMES, schemas: schemas.named() },
  };
}

/** The document as it is served and committed: the same bytes. */
export function printOpenApi(document: object): string {
  return `${JSON.stringify(document, null, 2)}\n`;
}

const SECURITY_SCHEMES: Json = {
  operator: { type: "http", scheme: "bearer", description: "An operator key, `ephor_op_…`." },
  session: {
    type: "apiKey",
    in: "cookie",
    name: "__Host-ephor",
    description:
      "Whoever is signed in at the console: the operator key, or a person whose roles (`operators` in the trust file) name the action of the scope. On everything but GET with the header `Ephor-CSRF`, from our own origin.",
  },
  token: {
    type: "http",
    scheme: "bearer",
    bearerFormat: "at+jwt",
    description:
      "An access token with `aud` `<issuer>/v1` and the scope named; with scheme `DPoP` where it is bound to a key.",
  },
  agent: {
    type: "http",
    scheme: "bearer",
    description:
      "An agent's own workload token, a `private_key_jwt` assertion, or an access token with `aud` `<issuer>/v1`.",
  },
  transmitter: {
    type: "http",
    scheme: "bearer",
    description:
      "The secret that the trust entry's `secret_hash` is of, where it has one, beside the event's signature.",
  },
  channel: {
    type: "apiKey",
    in: "header",
    name: "webhook-signature",
    description:
      "The channel's signature: `webhook-signature` with `webhook-id` and `webhook-timestamp` (Standard Webhooks), `X-Slack-Signature` with `X-Slack-Request-Timestamp`, or `Authorization: HMAC …` of Teams.",
  },
  clientSecret: {
    type: "http",
    scheme: "basic",
    description: "A resource server's name and secret; or in the form, or an assertion.",
  },
};

function security(auth: Auth): Json[] {
  if (auth === "none") return [];
  if (auth === "client") return [{ clientSecret: [] }, {}];
  if (auth === "operator") return [{ operator: [] }, { session: [] }];
  if (auth === "agent") return [{ agent: [] }];
  if (auth === "holder") return [{ token: [] }];
  if (auth === "transmitter") return [{ transmitter: [] }, {}];
  if (auth === "channel") return [{ channel: [] }];
  // OpenAPI 3.1 allows role names here for any scheme; ours are the scopes.
  return [{ operator: [] }, { session: [`ephor:${auth.scope}`] }, { token: [`ephor:${auth.scope}`] }];
}

function operation(route: Route, schemas: Schemas): Json {
  const parameters = [...parametersOf("path", route.params, schemas), ...parametersOf("query", route.query, schemas)];
  const body = route.bodyDocument ?? route.body;
  return {
    operationId: route.operationId,
    tags: [route.tag],
    summary: route.summary,
    ...(route.description !== undefined && { description: route.description }),
    security: security(route.auth),
    ...(parameters.length > 0 && { parameters }),
    ...(body !== undefined && {
      requestBody: {
        required: route.isBodyOptional !== true,
        content: { [route.textType ?? "application/json"]: { schema: schemas.of(body, "input") } },
      },
    }),
    responses: responses({ ...commonResponses(route), ...withProblems(route.responses) }, schemas),
  };
}

function formOperation(form: FormRoute, schemas: Schemas): Json {
  return {
    operationId: form.operationId,
    tags: [form.tag],
    summary: form.summary,
    ...(form.description !== undefined && { description: form.description }),
    security: security(form.auth),
    requestBody: {
      required: true,
      content: { "application/x-www-form-urlencoded": { schema: schemas.of(form.form, "input") } },
    },
    responses: responses(form.responses, schemas),
  };
}

/** What any route of its sort may answer. */
function commonResponses(route: Route): Record<number, ResponseSpec> {
  const isPublic = route.auth === "none";
  return {
    405: problem("This path does not take this method; see `Allow`."),
    ...(!isPublic && {
      400: problem("The request is malformed; `errors` says where."),
      401: problem("Credentials are missing, bad or expired; see `WWW-Authenticate`."),
      403: problem("The credentials do not allow this."),
      503: problem("The service cannot decide right now; see `Retry-After`."),
    }),
    ...(route.body !== undefined && {
      413: problem("The body is too large."),
      415: problem(`The body must be ${route.textType ?? "JSON in UTF-8"}.`),
    }),
  };
}

/** An error that a route only describes is a problem document. */
function withProblems(specs: Readonly<Record<number, ResponseSpec>>): Record<number, ResponseSpec> {
  return Object.fromEntries(
    Object.entries(specs).map(([status, spec]) => [
      status,
      Number(status) >= 400 && spec.body === undefined && spec.isBare !== true ? problem(spec.description) : spec,
    ]),
  );
}

function responses(specs: Readonly<Record<number, ResponseSpec>>, schemas: Schemas): Json {
  return Object.fromEntries(
    Object.entries(specs).map(([status, { description, body, contentType = "application/json" }]) => [
      status,
      {
        description,
        ...(body !== undefined && { content: { [contentType]: { schema: schemas.of(body, "output") } } }),
      },
    ]),
  );
}

function parametersOf(where: "path" | "query", shape: z.ZodType | undefined, schemas: Schemas): Json[] {
  if (shape === undefined) return [];
  const { properties = {}, required = [] } = schemas.of(shape, "output") as {
    properties?: Record<string, Json>;
    required?: string[];
  };
  return Object.entries(properties).map(([name, { description, ...schema }]) => ({
    name,
    in: where,
    required: where === "path" || required.includes(name),
    ...(description !== undefined && { description }),
    schema,
  }));
}

interface Schemas {
  /** The JSON Schema of a shape; named ones become references. */
  of(shape: z.ZodType, io: "input" | "output"): Json;
  named(): Json;
}

function createSchemas(): Schemas {
  const named = new Map<string, Json>();
  return {
    of(shape, io) {
      const {
        $schema: _dialect,
        $defs = {},
        ...schema
      } = z.toJSONSchema(shape, { metadata: components, io }) as Json & {
        $defs?: Record<string, Json>;
      };
      for (const [name, definition] of Object.entries($defs)) {
        if (!named.has(name)) named.set(name, rewritten(definition) as Json);
      }
      return rewritten(schema) as Json;
    },
    named: () => Object.fromEntries([...named].sort(([a], [b]) => (a < b ? -1 : 1))),
  };
}

/** References into the document, without the ids that the converter leaves. */
function rewritten(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(rewritten);
  if (typeof value !== "object" || value === null) return value;
  const result: Json = {};
  for (const [name, member] of Object.entries(value)) {
    if (name === "$ref" && typeof member === "string")
      result[name] = member.replace("#/$defs/", "#/components/schemas/");
    else result[name] = rewritten(member);
  }
  return result;
}
