import type { EpochSeconds } from "../core/time.ts";
import type { CredentialProvider } from "./provider.ts";
import { createAwsProvider, type AwsDeps } from "./providers/aws.ts";
import { createGithubAppProvider } from "./providers/github-app.ts";
import { createOAuthProvider } from "./providers/oauth.ts";
import { createPostgresProvider } from "./providers/postgres.ts";
import { createSshProvider } from "./providers/ssh.ts";
import { createStaticProvider } from "./providers/static.ts";

/** The providers by kind. Settings are `unknown` here: each is parsed by its own provider before it is used. */
export type ProviderKinds = ReadonlyMap<string, CredentialProvider>;

/** @param deps.now by the database's clock */
export function providerKinds(deps: { now: () => EpochSeconds } & AwsDeps): ProviderKinds {
  const all = [
    createStaticProvider(),
    createAwsProvider(deps),
    createGithubAppProvider(),
    createOAuthProvider(deps),
    createPostgresProvider(),
    createSshProvider(),
  ] as unknown as readonly CredentialProvider[];
  return new Map(all.map((provider) => [provider.kind, provider]));
}
