/** An issuer whose tokens are signed for many customers: there its name and our audience prove nothing (A-OIDC-13). */
export interface SharedIssuer {
  /** How its customers call it. */
  readonly title: string;
  matches(url: string): boolean;
  /** Claims that name a customer or one of its things by an id that is never given out again. All are strings. */
  readonly ids: readonly string[];
  /** How to find those ids. */
  readonly mend: string;
}

/**
 * The shared issuers we know. Names of repositories, projects, organisations and e-mail addresses are missing from `ids`
 * on purpose: they can be given up and registered again by a stranger (A-OIDC-17).
 */
const SHARED_ISSUERS: readonly SharedIssuer[] = [
  {
    title: "GitHub Actions",
    matches: (url) => isAt(url, "https://token.actions.githubusercontent.com"),
    ids: ["repository_id", "repository_owner_id", "enterprise_id"],
    mend: "bind repository_id and repository_owner_id; `gh api repos/OWNER/REPO --jq '.id, .owner.id'` prints them",
  },
  {
    title: "GitLab.com",
    matches: (url) => isAt(url, "https://gitlab.com"),
    // Not job_project_id: it names where a job runs, which for a fork's merge request is the parent project.
    ids: ["project_id", "namespace_id"],
    mend: "bind project_id or namespace_id; the project's page shows its id",
  },
  {
    title: "Google",
    matches: (url) => isAt(url, "https://accounts.google.com"),
    ids: ["sub"],
    mend: "bind sub, the numeric unique id of the service account",
  },
  {
    title: "CircleCI",
    matches: (url) => isAt(url, "https://oidc.circleci.com") && !url.startsWith("https://oidc.circleci.com/org/"),
    ids: ["oidc.circleci.com/org-id", "oidc.circleci.com/project-id"],
    mend: "bind oidc.circleci.com/org-id or oidc.circleci.com/project-id; both are in the settings of the organisation and the project",
  },
  {
    title: "Buildkite",
    matches: (url) => isAt(url, "https://agent.buildkite.com"),
    ids: ["organization_id", "pipeline_id", "cluster_id"],
    mend: "bind organization_id or pipeline_id, and ask for them: `buildkite-agent oidc request-token --claim pipeline_id`",
  },
  {
    title: "Bitbucket",
    matches: (url) => isAt(url, "https://api.bitbucket.org"),
    ids: ["workspaceUuid", "repositoryUuid"],
    mend: "bind workspaceUuid or repositoryUuid, with their braces; the repository's OpenID Connect settings show them",
  },
  {
    title: "Azure DevOps",
    matches: (url) => isAt(url, "https://vstoken.dev.azure.com"),
    ids: ["org_id", "prj_id"],
    mend: "bind org_id or prj_id, the UUIDs of the organisation and the project",
  },
  {
    title: "Fly.io",
    matches: (url) => isAt(url, "https://oidc.fly.io"),
    ids: ["org_id", "app_id"],
    mend: "bind org_id or app_id",
  },
  {
    title: "HCP Terraform",
    matches: (url) => isAt(url, "https://app.terraform.io"),
    ids: ["terraform_organization_id", "terraform_project_id", "terraform_workspace_id"],
    mend: "bind terraform_workspace_id or terraform_organization_id",
  },
  {
    title: "Vercel",
    matches: (url) => isAt(url, "https://oidc.vercel.com"),
    ids: ["owner_id", "project_id"],
    mend: "bind owner_id or project_id",
  },
  {
    title: "Codefresh",
    matches: (url) => isAt(url, "https://oidc.codefresh.io"),
    ids: ["account_id", "pipeline_id"],
    mend: "bind account_id or pipeline_id",
  },
  {
    title: "Chainguard",
    matches: (url) => isAt(url, "https://issuer.enforce.dev"),
    ids: ["sub"],
    mend: "bind sub, the identity's UIDP",
  },
  {
    title: "Microsoft personal accounts",
    matches: (url) => /^https:\/\/[a-z.]+\/9188040d-6c67-4c5b-b112-36a304b66dad(\/|$)/.test(url),
    ids: ["sub", "oid"],
    mend: "bind sub or oid",
  },
];

/** The shared issuer behind a URL, or undefined when it serves one customer, as far as we know. */
export function sharedIssuer(url: string): SharedIssuer | undefined {
  return SHARED_ISSUERS.find((issuer) => issuer.matches(url));
}

/**
 * Human issuers where anybody can get an account: `on_behalf_of` must say whom it means there.
 *
 * @returns claims of which one must be bound, or undefined
 */
export function openHumanIssuerClaims(url: string): readonly string[] | undefined {
  if (isAt(url, "https://accounts.google.com")) return ["sub", "hd"];
  if (isAt(url, "https://gitlab.com") || isAt(url, "https://appleid.apple.com")) return ["sub"];
  if (/^https:\/\/[a-z.]+\/9188040d-6c67-4c5b-b112-36a304b66dad(\/|$)/.test(url)) return ["sub", "oid"];
  return undefined;
}

/**
 * Whether tokens of this issuer have the claims of GitHub Actions: github.com with or without an enterprise's path,
 * data residency (`token.actions.NAME.ghe.com`), Enterprise Server (`…/_services/token`).
 */
export function isGithubActions(url: string): boolean {
  return (
    isAt(url, "https://token.actions.githubusercontent.com") ||
    /^https:\/\/token\.actions\.[a-z0-9-]+\.ghe\.com\/?$/.test(url) ||
    /^https?:\/\/[^/?#]+\/_services\/token$/.test(url)
  );
}

/** Whether a URL is this origin or below it. */
function isAt(url: string, origin: string): boolean {
  return url === origin || url.startsWith(`${origin}/`);
}
