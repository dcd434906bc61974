import { readFileSync } from "node:fs";

/** What `createVerifier` needs, by this server's environment. */
export function settings(env) {
  const file = env.RESOURCE_SECRET_FILE;
  const common = { issuer: env.EPHOR_ISSUER, resource: env.RESOURCE };
  // Without the resource's secret nothing tells of kills: a killed token is good for what is left of its minute.
  if (file === undefined) return { ...common, revocation: "none" };
  const credential = { name: env.RESOURCE_NAME, secret: readFileSync(file, "utf8").trim() };
  return { ...common, credential, revocation: env.REVOCATION ?? "feed" };
}
