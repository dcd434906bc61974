import { z } from "zod";
import { isLoopbackUrl, nameValue, urlValue } from "../../core/trust/values.ts";
import { ProviderError } from "../provider-error.ts";

/** Limits of one resource's settings, each with its reason. */
const LIMITS = {
  /** GitHub takes 500, and answers with 5–6 KB for each: more than an answer may have is a token that nobody can read. */
  repositories: 100,
  /** GitHub has about sixty. */
  permissions: 64,
  policies: 100,
} as const;

/** From the least to the most. */
const LEVELS = ["read", "write", "admin"] as const;

/** How much of a permission. */
export type PermissionLevel = (typeof LEVELS)[number];

/** Permission names, as GitHub's API spells them, with their levels. */
export type Permissions = Readonly<Record<string, PermissionLevel>>;

/** A name without its owner: an installation has one. */
const repositoryName = z.string().regex(/^(?!\.{1,2}$)[A-Za-z0-9._-]{1,100}$/, {
  error: "must be the name of a repository without its owner",
});

const repositoriesValue = z
  .array(repositoryName)
  .min(1)
  .max(LIMITS.repositories)
  .refine((names) => new Set(names.map((name) => name.toLowerCase())).size === names.length, {
    error: "has a repository twice",
  });

const permissionsValue = z
  .record(z.string().regex(/^[a-z][a-z_]{0,63}$/), z.enum(LEVELS))
  // INVARIANT: never empty. GitHub takes no permissions for all that the app has.
  .refine((all) => Object.keys(all).length > 0, { error: "must have one permission at least" })
  .refine((all) => Object.keys(all).length <= LIMITS.permissions, {
    error: `has more than ${LIMITS.permissions} permissions`,
  });

const numberValue = z.union([z.int().positive(), z.string().regex(/^[1-9]\d{0,18}$/)]);

/** What a grant's policy leaves of the resource's; what it does not name is left as it is. */
const policyValue = z.strictObject({
  repositories: repositoriesValue.optional(),
  permissions: permissionsValue.optional(),
});

/** Shape of `credential: { github_app: … }`. */
export const githubAppSettingsValue = z
  .strictObject({
    /** The app's id, or its client id. */
    app_id: z.union([numberValue, z.string().regex(/^Iv[A-Za-z0-9.]{4,60}$/)], {
      error: "must be the id or the client id of a GitHub App",
    }),
    installation_id: numberValue,
    /** The vault's secret with the app's private key, as GitHub hands it out: RSA in PEM. */
    secret: nameValue,
    /** Names, without the owner. */
    repositories: repositoriesValue.optional(),
    /** Says aloud that tokens reach whatever the installation reaches, now and later. */
    all_repositories: z.literal(true).optional(),
    permissions: permissionsValue,
    session_policies: z
      .record(nameValue, policyValue)
      .refine((all) => Object.keys(all).length <= LIMITS.policies, {
        error: `has more than ${LIMITS.policies} policies`,
      })
      .default({}),
    /** `https://HOST/api/v3` for GitHub Enterprise Server. */
    api_url: urlValue({ schemes: ["https", "http"], query: false }).default("https://api.github.com"),
    /** The operator allows a private address for `api_url`. */
    internal: z.boolean().default(false),
  })
  .superRefine((settings, ctx) => {
    const fail = (message: string, path: string[] = []): void => ctx.addIssue({ code: "custom", message, path });
    if ((settings.repositories === undefined) === (settings.all_repositories === undefined))
      fail("must have either repositories or all_repositories: true");
    if (settings.api_url.startsWith("http:") && !(settings.internal && isLoopbackUrl(settings.api_url)))
      fail("must be https, or a loopback address with internal: true", ["api_url"]);
    for (const [name, policy] of Object.entries(settings.session_policies)) {
      if (!isWithin(policy, settings)) fail("has more than the resource itself", ["session_policies", name]);
    }
  });

/** Settings of `credential: { github_app: … }`, with the defaults in place. */
export type GithubAppSettings = z.infer<typeof githubAppSettingsValue>;

/** What one token is asked for. */
export interface TokenBounds {
  /** Undefined: all of the installation's. */
  readonly repositories: readonly string[] | undefined;
  readonly permissions: Permissions;
}

/**
 * What one lease's token is asked for: the resource's, and of it only what every policy leaves.
 *
 * @throws {ProviderError} `cannot_bound`: `session_policy_unknown`, or `nothing_left`, since GitHub takes nothing for all
 */
export function boundsOf(settings: GithubAppSettings, policies: readonly string[]): TokenBounds {
  let { repositories, permissions }: TokenBounds = { repositories: settings.repositories, ...settings };
  for (const name of policies) {
    const policy = Object.hasOwn(settings.session_policies, name) ? settings.session_policies[name] : undefined;
    if (policy === undefined) throw new ProviderError("cannot_bound", { code: "session_policy_unknown" });
    const kept = policy.repositories;
    if (kept !== undefined) repositories = (repositories ?? kept).filter((own) => isAmong(own, kept));
    if (policy.permissions !== undefined) permissions = lesser(permissions, policy.permissions);
  }
  if (repositories?.length === 0 || Object.keys(permissions).length === 0)
    throw new ProviderError("cannot_bound", { code: "nothing_left" });
  return { repositories, permissions };
}

/** GitHub tells names apart without regard to case. */
export function isAmong(repository: string, names: readonly string[]): boolean {
  return names.some((name) => name.toLowerCase() === repository.toLowerCase());
}

/** Whether each permission is one of `bounds`, on that level or a lower one. An unknown level is on none. */
export function arePermissionsWithin(permissions: Readonly<Record<string, string>>, bounds: Permissions): boolean {
  return Object.entries(permissions).every(([name, level]) => {
    const bound = Object.hasOwn(bounds, name) ? bounds[name] : undefined;
    const rank = LEVELS.findIndex((known) => known === level);
    return bound !== undefined && rank >= 0 && rank <= LEVELS.indexOf(bound);
  });
}

function lesser(one: Permissions, other: Permissions): Permissions {
  const both = Object.entries(one).flatMap(([name, level]): [string, PermissionLevel][] => {
    const bound = Object.hasOwn(other, name) ? other[name] : undefined;
    if (bound === undefined) return [];
    return [[name, LEVELS.indexOf(level) <= LEVELS.indexOf(bound) ? level : bound]];
  });
  return Object.fromEntries(both);
}

function isWithin(
  policy: z.infer<typeof policyValue>,
  settings: { readonly repositories?: readonly string[] | undefined; readonly permissions: Permissions },
): boolean {
  const { repositories } = settings;
  const repositoriesFit =
    repositories === undefined || (policy.repositories ?? []).every((name) => isAmong(name, repositories));
  return repositoriesFit && arePermissionsWithin(policy.permissions ?? {}, settings.permissions);
}
