import type { AuditEvent } from "../api/audit.ts";
import { isCanary } from "../core/trust/canary.ts";

/** The version of the schema that the classes below are taken from. */
const OCSF_VERSION = "1.6.0";

/** Authentication (3002) in Identity & Access Management (3); API Activity (6003) in Application Activity (6). */
const AUTHENTICATION = { uid: 3002, category: 3, name: "Authentication" };
const API_ACTIVITY = { uid: 6003, category: 6, name: "API Activity" };

/** Activities of the class API Activity. */
const ACTIVITY = {
  create: { id: 1, name: "Create" },
  read: { id: 2, name: "Read" },
  update: { id: 3, name: "Update" },
  delete: { id: 4, name: "Delete" },
} as const;

const ACTIVITY_OF_TYPE: Readonly<Record<string, keyof typeof ACTIVITY>> = {
  "task.open": "create",
  "task.read": "read",
  "task.end": "delete",
  "token.introspect": "read",
  "token.consume": "update",
  "token.revoke": "delete",
  "trust.apply": "update",
  "agent.status": "update",
  "keys.rotate": "update",
  "keys.rewrap": "update",
  "audit.read": "read",
  "lease.end": "delete",
  "secret.rotate": "update",
  "tools.pin": "create",
  "tools.change": "update",
  "tools.accept": "update",
  "ssf.stream": "update",
  "operator.sign_in": "create",
  "operator.sign_out": "delete",
  "approval.ask": "create",
  "approval.decide": "update",
  "approval.notify": "read",
  "hook.receive": "update",
  kill: "delete",
  restore: "update",
};

/** `status_id`: what was granted succeeded, what was refused failed, a note is neither. */
const STATUS = {
  granted: { id: 1, name: "Success" },
  refused: { id: 2, name: "Failure" },
  noted: { id: 99, name: "Noted" },
} as const;

const OTHER = 99;
/** `auth_protocol_id` of OAuth 2.0. */
const OAUTH_2 = 6;
/** `type_id` of a user who is a person; agents have none of their own. */
const PERSON = 1;

/**
 * The event in the Open Cybersecurity Schema Framework: issuing a token is Authentication (3002), anything else API Activity
 * (6003). What has no place there lies in `unmapped`, by our names.
 *
 * @see https://schema.ocsf.io/classes/authentication, https://schema.ocsf.io/classes/api_activity
 */
export function ocsfEvent(event: AuditEvent): Record<string, unknown> {
  const isAuthentication = event.type === "token.issue";
  const kind = isAuthentication ? AUTHENTICATION : API_ACTIVITY;
  const activity = isAuthentication ? undefined : ACTIVITY[ACTIVITY_OF_TYPE[event.type] as keyof typeof ACTIVITY];
  const activityId = activity?.id ?? OTHER;
  const status = STATUS[event.decision];
  const { body } = event;
  return {
    class_uid: kind.uid,
    class_name: kind.name,
    category_uid: kind.category,
    activity_id: activityId,
    activity_name: activity?.name ?? event.type,
    type_uid: kind.uid * 100 + activityId,
    time: Date.parse(event.at),
    severity_id: severityOf(event),
    status_id: status.id,
    status: status.name,
    ...(event.reason !== undefined && { status_detail: event.reason, status_code: event.reason }),
    metadata: {
      version: OCSF_VERSION,
      uid: event.id,
      event_code: event.type,
      original_time: event.at,
      correlation_uid: event.txn,
      log_name: event.stream,
      sequence: event.seq,
      product: { name: "Ephor", vendor_name: "Ephor" },
    },
    actor: { user: userOf(event.agent), app_name: event.agent, app_uid: clientOf(body)?.["workload"] },
    src_endpoint: { name: event.agent ?? text(body["source"]) ?? "unknown", type: "Other", type_id: OTHER },
    ...(isAuthentication ? authentication(event) : apiActivity(event)),
    unmapped: { ...body, decision: event.decision },
  };
}

/** @see https://schema.ocsf.io/classes/authentication: `user` and one of `service` and `dst_endpoint` are required */
function authentication(event: AuditEvent): Record<string, unknown> {
  const { body } = event;
  return {
    user: userOf(event.sub ?? event.agent),
    service: { name: event.resource ?? "ephor", uid: text(body["aud"]) },
    auth_protocol: "OAUTH 2.0",
    auth_protocol_id: OAUTH_2,
    is_remote: true,
    session: { uid: event.jti, issuer: text(clientOf(body)?.["issuer"]), expiration_time: expiryMs(body) },
  };
}

/** @see https://schema.ocsf.io/classes/api_activity: `actor`, `api` and `src_endpoint` are required */
function apiActivity(event: AuditEvent): Record<string, unknown> {
  return {
    api: {
      operation: event.type,
      service: { name: "ephor" },
      request: { uid: text(event.body["requestId"]) ?? event.id },
    },
    ...(event.resource !== undefined && { resources: [{ name: event.resource }] }),
  };
}

function userOf(name: string | undefined): Record<string, unknown> {
  const isPerson = name !== undefined && name.includes("|") && !name.startsWith("agent|");
  const type = isPerson ? { type: "User", type_id: PERSON } : { type: "Agent", type_id: OTHER };
  return { uid: name ?? "unknown", name: name ?? "unknown", ...type };
}

function clientOf(body: AuditEvent["body"]): Record<string, unknown> | undefined {
  const client = body["client"];
  return typeof client === "object" && client !== null ? (client as Record<string, unknown>) : undefined;
}

function expiryMs(body: AuditEvent["body"]): number | undefined {
  return typeof body["exp"] === "number" ? body["exp"] * 1000 : undefined;
}

function text(value: unknown): string | undefined {
  return typeof value === "string" ? value : undefined;
}

/** 1 Informational; a refusal is worth a look: 2 Low, a kill 3 Medium. What the canary does is routine, unless a kill failed: 5 Critical. */
function severityOf({ type, agent, decision }: AuditEvent): number {
  if (type === "canary.failed") return 5;
  if (isCanary(agent)) return 1;
  if (type === "kill") return 3;
  return decision === "refused" ? 2 : 1;
}
