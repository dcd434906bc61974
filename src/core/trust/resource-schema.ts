import { z } from "zod";
import { decodeAction } from "../oauth/scope.ts";
import { TRUST_LIMITS } from "./limits.ts";
import type { Mode, Resource } from "./model.ts";
import { credentialIdentifier, httpIdentifier, mcpIdentifier } from "./identifiers.ts";
import { dateSeconds, dateValue, isLoopbackUrl, nameValue, textValue, urlValue } from "./values.ts";

/** A declared or granted action, spelled as in scopes (CONTRACT §8); `*` is not one. */
export const actionValue = z
  .string()
  .max(TRUST_LIMITS.actionCharacters)
  .refine((action) => decodeAction(action) !== undefined, {
    error: "must be of A-Z a-z 0-9 _ . / -, other characters percent-encoded like %20",
  });

const actionList = z.array(actionValue).min(1).max(TRUST_LIMITS.actions);

/** `METHOD /path` with `*` for one whole segment and `**` for the rest. */
const routeValue = z
  .string()
  .max(TRUST_LIMITS.urlCharacters)
  .regex(
    /^(?:GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS) (?:\/|(?:\/(?:\*|(?!\.{1,2}(?:\/|$))[A-Za-z0-9._~!$&'()+,;=:@%-]+))*(?:\/\*\*|\/)?)$/,
    {
      error: "must be a method and a path like `GET /contacts/*`",
    },
  );

const serverUrl = urlValue({ schemes: ["https", "http"], query: false }).refine(
  (text) => !text.startsWith("http:") || isLoopbackUrl(text),
  { error: "must be https unless it is a loopback address" },
);

/** Headers that say how a message is framed or who is asked; injecting one would change the request itself. */
const FRAMING_HEADERS =
  /^(?:host|connection|content-length|content-type|transfer-encoding|te|trailer|upgrade|expect|keep-alive|proxy-.*|mcp-.*)$/i;

const injectValue = z.strictObject({
  header: z
    .string()
    .regex(/^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}$/, { error: "must be the name of a header" })
    .refine((header) => !FRAMING_HEADERS.test(header), { error: "must not be a header that frames the message" }),
  value: z
    .string()
    .max(TRUST_LIMITS.valueCharacters)
    .regex(/^[\x20-\x7e]+$/, { error: "must be printable ASCII" })
    .refine((value) => !/[{}]/.test(value.replaceAll(/\{secret:[a-z0-9][a-z0-9-]{0,62}\}/g, "")), {
      error: "has braces that are not {secret:NAME}",
    }),
});

const modeValue = z.union([
  z.literal("enforce"),
  z.strictObject({ observe: z.literal(true), until: dateValue }),
  z.strictObject({ observe: z.literal(false) }),
]);

const introspectionValue = z.union([
  z.strictObject({ agent: nameValue }),
  z.strictObject({
    secret_hash: z.string().regex(/^sha256:[0-9a-f]{64}$/, { error: "must be sha256: and 64 hexadecimal digits" }),
  }),
]);

const PROVIDERS = ["static", "aws", "github_app", "postgres", "oauth", "ssh"] as const;

const settingsValue = z.record(z.string(), z.json());

const FIELDS = {
  verify: z.strictObject({
    resource: z.string(),
    actions: actionList,
    introspection: introspectionValue.optional(),
  }),
  mcp: z.strictObject({
    mcp: z.union([serverUrl, z.strictObject({ command: z.array(textValue).min(1).max(64) })]),
    inject: injectValue.optional(),
    mode: modeValue.optional(),
  }),
  http: z.strictObject({
    http: serverUrl,
    actions: z.record(actionValue, z.array(routeValue).min(1).max(TRUST_LIMITS.actions)),
    inject: injectValue.optional(),
    mode: modeValue.optional(),
  }),
  credential: z.strictObject({
    credential: z
      .partialRecord(z.enum(PROVIDERS), settingsValue)
      .refine((providers) => Object.keys(providers).length === 1, {
        error: "must have exactly one provider",
      }),
    disclose: z.boolean().optional(),
  }),
};

/** The member that tells the kinds apart. */
const KIND_KEYS = { resource: "verify", mcp: "mcp", http: "http", credential: "credential" } as const;

type ResourceKind = keyof typeof FIELDS;

/** The kind that a raw resource says it is, or undefined when it names none or several. */
export function kindOfRaw(raw: object): ResourceKind | undefined {
  const named = Object.keys(KIND_KEYS).filter((key) => Object.hasOwn(raw, key)) as (keyof typeof KIND_KEYS)[];
  const only = named.length === 1 ? named[0] : undefined;
  return only === undefined ? undefined : KIND_KEYS[only];
}

/** The schema of one kind of resource, as the trust file and the API write it (CONTRACT §4). */
export function resourceWire(kind: ResourceKind): z.ZodType {
  return FIELDS[kind];
}

/** @param wire parsed by the schema of its kind; @param issuerUrl our own issuer, the beginning of identifiers we make */
export function toResource(name: string, kind: ResourceKind, wire: unknown, issuerUrl: string): Resource {
  switch (kind) {
    case "verify":
      return toVerify(name, wire as z.infer<typeof FIELDS.verify>);
    case "mcp": {
      const { mcp, inject, mode } = wire as z.infer<typeof FIELDS.mcp>;
      const settings = { mcp, ...(inject !== undefined && { inject }) };
      return { kind, name, identifier: mcpIdentifier(issuerUrl, name), settings, mode: toMode(mode) };
    }
    case "http": {
      const { http, actions, inject, mode } = wire as z.infer<typeof FIELDS.http>;
      const settings = { http, routes: actions, ...(inject !== undefined && { inject }) };
      return {
        kind,
        name,
        identifier: httpIdentifier(issuerUrl, name),
        actions: Object.keys(actions),
        settings,
        mode: toMode(mode),
      };
    }
    case "credential": {
      const { credential, disclose } = wire as z.infer<typeof FIELDS.credential>;
      const [provider = "", settings = {}] = Object.entries(credential)[0] ?? [];
      return {
        kind,
        name,
        identifier: credentialIdentifier(issuerUrl, name),
        provider,
        actions: ["vend"],
        settings: { ...settings, ...(disclose !== undefined && { disclose }) },
      };
    }
  }
}

function toVerify(name: string, wire: z.infer<typeof FIELDS.verify>): Resource {
  const { resource, actions, introspection } = wire;
  return {
    kind: "verify",
    name,
    identifier: resource,
    actions,
    ...(introspection !== undefined && {
      introspection: "agent" in introspection ? introspection : { secretHash: introspection.secret_hash },
    }),
  };
}

function toMode(mode: z.infer<typeof modeValue> | undefined): Mode {
  if (mode === undefined || mode === "enforce" || !mode.observe) return { observe: false };
  return { observe: true, until: dateSeconds(mode.until) };
}
