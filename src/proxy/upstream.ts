import type { CredentialUse } from "../broker/injected.ts";
import { awsScopeOf, type AwsScope } from "../core/trust/aws-endpoint.ts";
import type { Resource } from "../core/trust/model.ts";
import { isLoopbackUrl } from "../core/trust/values.ts";
import { compileRoutes, type HttpRoutes } from "./http-route.ts";

/** A value that is made of secrets, for an upstream. */
export interface Rendering {
  /** Names of the secrets that it needs. */
  readonly secrets: readonly string[];
  /** What it is made of in place of secrets. */
  readonly credential?: CredentialUse;
  /** @param valueOf a secret's text */
  render(valueOf: (secret: string) => string): string;
  /** Whether a value can stand where it goes. */
  fits(value: string): boolean;
}

/** What is put into every request to an upstream (CONTRACT §8). */
export interface Injection extends Rendering {
  /** Lower case. */
  readonly header: string;
}

/** Where a proxied resource's calls go. */
export interface Upstream {
  readonly origin: string;
  /** Before every path; without a slash at its end. */
  readonly basePath: string;
  readonly internal: boolean;
  readonly inject: Injection | undefined;
  /** Lower-case names of more headers that callers may send. */
  readonly forward: ReadonlySet<string>;
}

/** An HTTP resource, ready to be called. */
export interface HttpUpstream extends Upstream {
  readonly routes: HttpRoutes;
  /** Requests are signed for this; undefined: they are not AWS's. */
  readonly aws: AwsScope | undefined;
}

export type HttpResource = Extract<Resource, { kind: "http" }>;
export type McpResource = Extract<Resource, { kind: "mcp" }>;

interface Settings {
  readonly http?: string;
  readonly mcp?: string | { readonly command: readonly string[] };
  readonly routes?: Readonly<Record<string, readonly string[]>>;
  readonly inject?: InjectSettings;
  readonly internal?: boolean;
  readonly forward?: readonly string[];
}

interface InjectSettings {
  readonly header?: string;
  readonly value?: string;
  readonly oauth?: string;
  readonly aws?: string;
  readonly policy?: string;
  readonly service?: string;
  readonly region?: string;
}

const httpUpstreams = new WeakMap<Resource, HttpUpstream>();
const mcpUpstreams = new WeakMap<Resource, Upstream>();

/** A resource's settings, compiled once for as long as it stays as it is. */
export function httpUpstreamOf(resource: HttpResource): HttpUpstream {
  let made = httpUpstreams.get(resource);
  if (made === undefined) {
    const settings = resource.settings as Settings;
    const { http = "", inject = {}, routes = {} } = settings;
    const aws = inject.aws === undefined ? undefined : scopeOf(http, inject);
    made = { ...upstreamOf(http, settings), routes: compileRoutes(routes), aws };
    httpUpstreams.set(resource, made);
  }
  return made;
}

/** @returns undefined for a server that Ephor starts itself */
export function mcpUpstreamOf(resource: McpResource): Upstream | undefined {
  const settings = resource.settings as Settings;
  if (typeof settings.mcp !== "string") return undefined;
  let made = mcpUpstreams.get(resource);
  if (made === undefined) {
    made = upstreamOf(settings.mcp, settings);
    mcpUpstreams.set(resource, made);
  }
  return made;
}

function upstreamOf(address: string, settings: Settings): Upstream {
  const url = new URL(address);
  return {
    origin: url.origin,
    basePath: url.pathname.replace(/\/$/, ""),
    // A loopback address says by itself that it is meant.
    internal: settings.internal === true || isLoopbackUrl(address),
    inject: settings.inject && injectionOf(settings.inject),
    forward: new Set((settings.forward ?? []).map((name) => name.toLowerCase())),
  };
}

const SECRET = /\{secret:([a-z0-9][a-z0-9-]{0,62})\}/g;

/** What apply made sure of: that the resource says what its host does not. */
function scopeOf(http: string, { service, region }: InjectSettings): AwsScope {
  const told = awsScopeOf(http);
  return { service: service ?? told?.service ?? "", region: region ?? told?.region ?? "" };
}

function injectionOf({ header = "", value = "", oauth, aws, policy }: InjectSettings): Injection {
  const kind = aws === undefined ? "oauth" : "aws";
  const resource = aws ?? oauth;
  if (resource !== undefined)
    return { header: "authorization", ...renderingOf("", /^$/), credential: { kind, resource, policy } };
  // A line end in a secret would begin another header.
  return { header: header.toLowerCase(), ...renderingOf(value, /^[\x20-\x7e\x80-\xff]*$/) };
}

/** @param template text with `{secret:NAME}` in it; @param pattern what may stand where the value goes */
export function renderingOf(template: string, pattern: RegExp): Rendering {
  return {
    secrets: [...new Set([...template.matchAll(SECRET)].map((match) => match[1] as string))],
    // A function, so that `$` in a secret is no pattern of replacement.
    render: (valueOf) => template.replaceAll(SECRET, (_whole, name: string) => valueOf(name)),
    fits: (value) => pattern.test(value),
  };
}
