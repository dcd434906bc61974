import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { Provider } from "oidc-provider";

/** An identity provider that others wrote, with a human who signs in as anybody. */
export interface HumanIdp {
  readonly url: string;
  readonly clientId: string;
  /** What a browser does: follows an address through sign-in and consent. @returns the last page, or where it was sent off to */
  browse(address: string, fields?: Readonly<Record<string, string>>): Promise<string>;
}

/** Starts one on a free loopback port; it ends with the test. */
export async function startHumanIdp(t: { after(fn: () => unknown): void }): Promise<HumanIdp> {
  const http = createServer();
  http.listen(0, "127.0.0.1");
  await once(http, "listening");
  const url = `http://127.0.0.1:${(http.address() as AddressInfo).port}`;
  const clientId = "ephor-cli";
  const provider = new Provider(url, {
    clients: [
      {
        client_id: clientId,
        application_type: "native",
        token_endpoint_auth_method: "none",
        redirect_uris: ["http://127.0.0.1/callback"],
        response_types: ["code"],
        grant_types: ["authorization_code", "urn:ietf:params:oauth:grant-type:device_code"],
      },
    ],
    claims: { openid: ["sub", "auth_time"], email: ["email"] },
    scopes: ["openid", "email", "profile"],
    conformIdTokenClaims: false,
    findAccount: (_: unknown, id: string) => ({
      accountId: id,
      claims: () => ({ sub: id, email: `${id}@acme.example` }),
    }),
    features: { devInteractions: { enabled: true }, deviceFlow: { enabled: true } },
    cookies: { keys: ["test"] },
  });
  http.on("request", provider.callback());
  t.after(() => {
    http.closeAllConnections();
    http.close();
  });
  return { url, clientId, browse: (address, fields = {}) => browse(url, address, fields) };
}

/** Steps that a sign-in takes at most. */
const MAX_STEPS = 20;

async function browse(origin: string, start: string, fields: Readonly<Record<string, string>>): Promise<string> {
  const cookies = new Map<string, string>();
  let request: { url: string; body?: URLSearchParams } = { url: start };
  for (let step = 0; step < MAX_STEPS; step++) {
    if (!request.url.startsWith(origin)) return request.url;
    const response: Response = await fetch(request.url, {
      redirect: "manual",
      headers: { cookie: [...cookies].map(([name, value]) => `${name}=${value}`).join("; ") },
      ...(request.body !== undefined && { method: "POST", body: request.body }),
    });
    for (const line of response.headers.getSetCookie()) {
      const [pair = ""] = line.split(";");
      cookies.set(pair.slice(0, pair.indexOf("=")), pair.slice(pair.indexOf("=") + 1));
    }
    const page = await response.text();
    const location = response.headers.get("location");
    if (location !== null) request = { url: new URL(location, request.url).href };
    else {
      const form = formOf(page, request.url, fields);
      if (form === undefined) return page;
      request = form;
    }
  }
  throw new Error("the sign-in did not end");
}

/** The page's form, filled in. */
function formOf(
  page: string,
  at: string,
  fields: Readonly<Record<string, string>>,
): { url: string; body: URLSearchParams } | undefined {
  const [, attributes = "", inside] = /<form([^>]*)>([\s\S]*?)<\/form>/.exec(page) ?? [];
  if (inside === undefined) return undefined;
  const body = new URLSearchParams();
  for (const [input] of inside.matchAll(/<(?:input|button)[^>]*>/g)) {
    const name = /name="([^"]*)"/.exec(input)?.[1];
    if (name !== undefined) body.set(name, fields[name] ?? /value="([^"]*)"/.exec(input)?.[1] ?? "x");
  }
  return { url: new URL(/action="([^"]*)"/.exec(attributes)?.[1] ?? at, at).href, body };
}
