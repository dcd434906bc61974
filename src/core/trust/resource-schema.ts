import { z } from "zod";
import { decodeAction } from "../oauth/scope.ts";
import { httpLimitsValue, mcpLimitsValue } from "./call-limits.ts";
import { TRUST_LIMITS } from "./limits.ts";
import type { Mode, Resource } from "./model.ts";
import { credentialIdentifier, httpIdentifier, mcpIdentifier } from "./identifiers.ts";
import { checkHttpSettings, checkMcpSettings, commandValue, injectValue, mcpInjectValue } from "./inject-schema.ts";
import { checkInspect, inspectValue } from "./inspect-schema.ts";
import { recordValue } from "./record-schema.ts";
import { dateSeconds, dateValue, isLoopbackUrl, nameValue, urlValue } from "./values.ts";

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

/** Headers that say who asks, from where, how the message is framed, or what some servers obey instead of the request line. */
const KEPT_BACK =
  /^(?:authorization|cookie2?|host|connection|keep-alive|te|trailer|transfer-encoding|upgrade|expect|content-length|content-encoding|forwarded|via|dpop|origin|referer|x-forwarded-.*|x-real-ip|x-original-.*|x-rewrite-.*|x-http-method.*|x-method-override|proxy-.*|sec-.*|mcp-.*|(?:x-)?ephor-.*)$/i;

/** Whether callers may send a header of that name to an upstream, where its resource says so. */
export function mayForward(name: string): boolean {
  return !KEPT_BACK.test(name);
}

/** More headers that callers may send, beside those that are always forwarded. */
const forwardValue = z
  .array(
    z
      .string()
      .regex(/^[A-Za-z0-9-]{1,64}$/, { error: "must be the name of a header" })
      .refine((name) => !KEPT_BACK.test(name), { error: "must not be a header that Ephor keeps back" }),
  )
  .max(32);

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
  mcp: z
    .strictObject({
      mcp: z.union([serverUrl, z.strictObject({ command: commandValue })]),
      inject: mcpInjectValue.optional(),
      forward: forwardValue.optional(),
      internal: z.boolean().optional(),
      limits: mcpLimitsValue.optional(),
      record: recordValue.optional(),
      inspect: inspectValue.optional(),
      mode: modeValue.optional(),
    })
    .superRefine((wire, context) => {
      checkMcpSettings(wire, ({ path, message, mend }) =>
        context.addIssue({ code: "custom", path, message, params: { mend } }),
      );
      checkInspect(wire, context);
    }),
  http: z
    .strictObject({
      http: serverUrl,
      actions: z.record(actionValue, z.array(routeValue).min(1).max(TRUST_LIMITS.actions)),
      inject: injectValue.optional(),
      forward: forwardValue.optional(),
      internal: z.boolean().optional(),
      limits: httpLimitsValue.optional(),
      record: recordValue.optional(),
      inspect: inspectValue.optional(),
      mode: modeValue.optional(),
    })
    .superRefine((wire, context) => {
      checkHttpSettings(wire, ({ path, message, mend }) =>
        context.addIssue({ code: "custom", path, message, params: { mend } }),
      );
      checkInspect(wire, context);
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
      const { mcp, mode, ...rest } = wire as z.infer<typeof FIELDS.mcp>;
      const settings = { mcp, ...present(rest) };
      return { kind, name, identifier: mcpIdentifier(issuerUrl, name), settings, mode: toMode(mode) };
    }
    case "http": {
      const { http, actions, mode, ...rest } = wire as z.infer<typeof FIELDS.http>;
      const settings = { http, routes: actions, ...present(rest) };
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

/** The members that are there. */
function present(members: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(members).filter(([, value]) => value !== undefined));
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
