import type { Channel, Resource } from "../core/trust/model.ts";
import type { Path, TrustProblem } from "../core/trust/problem.ts";
import type { TrustEntry } from "../core/trust/schema.ts";
import type { Merged } from "./merged.ts";

/**
 * Secrets of channels go to their channels and nowhere else. Whoever knows by what a channel signs speaks for operators, and whoever
 * has the token of its app rewrites the question under the button: a resource that sends such a secret to its upstream would give
 * both to everybody who may write resources.
 */
export function checkChannelSecrets(entry: TrustEntry, { channels, resources }: Merged): TrustProblem[] {
  if (entry.kind === "resources") {
    const resource = entry.model;
    return [...channels.values()].flatMap((channel) =>
      secretsOf(channel).flatMap(({ name }) =>
        mentionsOf(resource, name).map((path) => ({
          path,
          what: `uses the secret ${name}, which is the channel ${channel.name}'s`,
          mend: "give the resource a secret of its own",
        })),
      ),
    );
  }
  if (entry.kind !== "channels") return [];
  return secretsOf(entry.model).flatMap(({ name, at }) =>
    [...resources.values()]
      .filter((resource) => mentionsOf(resource, name).length > 0)
      .map((resource) => ({
        path: at,
        what: `is the secret ${name}, which the resource ${resource.name} uses`,
        mend: "give the channel a secret of its own",
      })),
  );
}

function secretsOf(channel: Channel): readonly { readonly name: string; readonly at: Path }[] {
  const { kind, signingSecret } = channel;
  const signing =
    signingSecret === undefined
      ? []
      : [{ name: signingSecret, at: [kind, kind === "slack" ? "signing_secret" : "secret"] }];
  if (kind === "slack") return [...signing, { name: channel.token, at: ["slack", "token"] }];
  if (kind === "webhook" || typeof channel.webhook === "string") return signing;
  return [...signing, { name: channel.webhook.secret, at: ["teams", "webhook", "secret"] }];
}

/** Where a resource names a secret: as a template, or as a member whose name says that it is one. */
function mentionsOf(resource: Resource, secret: string): Path[] {
  if (!("settings" in resource)) return [];
  const found: Path[] = [];
  const look = (value: unknown, path: Path, key: string): void => {
    if (typeof value === "string") {
      const isNamed = /(?:^|_)secret$/.test(key) && isNameOf(value, secret);
      if (isNamed || value.includes(`{secret:${secret}}`)) found.push(path);
    } else if (typeof value === "object" && value !== null)
      for (const [name, member] of Object.entries(value))
        look(member, [...path, Array.isArray(value) ? Number(name) : name], Array.isArray(value) ? key : name);
  };
  look(resource.settings, resource.kind === "credential" ? ["credential", resource.provider] : [], "");
  return found;
}

/** `{user}` stands for some digits: a name that begins and ends alike is left alone. */
function isNameOf(pattern: string, secret: string): boolean {
  const [start = "", end] = pattern.split("{user}");
  return end === undefined ? pattern === secret : secret.startsWith(start) && secret.endsWith(end);
}
