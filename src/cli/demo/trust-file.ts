/** Names of the story. */
export const NAMES = {
  registry: "https://registry.demo.example",
  inbox: "https://inbox.demo.example",
  /** The app that Ada signs in to; her ID tokens are for it. */
  app: "support-app",
} as const;

/**
 * The trust file of the demonstration: who may be whom, and who may do what.
 *
 * @param at.issuers base URL of the local issuers; @param at.audience Ephor's own issuer; @param at.secretHash of the tool servers; @param at.orders the database of orders; @param at.command starts the MCP server
 */
export function demoTrustFile(at: {
  issuers: string;
  audience: string;
  secretHash: string;
  orders: { host: string; port: number };
  command: readonly string[];
}): string {
  return `issuers:
  ci: { url: "${at.issuers}/ci", audience: "${at.audience}", internal: true }
  cluster: { url: "${at.issuers}/cluster", audience: "${at.audience}", internal: true }
  people: { url: "${at.issuers}/people", audience: ${NAMES.app}, identifies: humans, internal: true, subject_max_age: 8h }
agents:
  release-bot:
    owner: dana@demo.example
    purpose: cuts releases
    trust:
      - issuer: ci
        claims: { repository_id: "987654321", repository_owner_id: "1234567", ref: refs/heads/main }
  triage-bot:
    owner: sam@demo.example
    purpose: sorts the support inbox
    trust: [{ issuer: cluster, claims: { sub: "system:serviceaccount:support:triage" } }]
    subject_from: { aud: ${NAMES.app} }
  summary-bot:
    owner: sam@demo.example
    purpose: summarises messages
    trust: [{ issuer: cluster, claims: { sub: "system:serviceaccount:support:summary" } }]
resources:
  registry:
    resource: ${NAMES.registry}
    actions: [publish, yank]
    introspection: { secret_hash: "${at.secretHash}" }
  inbox:
    resource: ${NAMES.inbox}
    actions: [read_message, label_message]
    introspection: { secret_hash: "${at.secretHash}" }
  orders-db:
    credential:
      postgres:
        host: "${at.orders.host}"
        port: ${at.orders.port}
        database: orders
        secret: orders-maker
        statements: ["GRANT SELECT ON public.orders TO {role}"]
  everything:
    mcp: { command: ${JSON.stringify(at.command)} }
    inject: { env: DEMO_KEY, value: "{secret:everything-key}" }
grants:
  - { agent: release-bot, resource: registry, actions: [publish] }
  - { agent: release-bot, resource: everything, actions: [echo, get-env, trigger-long-running-operation] }
  - agent: triage-bot
    resource: inbox
    actions: [read_message, label_message]
    on_behalf_of: { issuer: people, claims: { groups: support } }
  - agent: triage-bot
    resource: orders-db
    actions: [vend]
    on_behalf_of: { issuer: people, claims: { groups: support } }
    residual: none
  - { agent: triage-bot, delegate_to: [summary-bot] }
  - agent: summary-bot
    resource: inbox
    actions: [read_message, label_message]
    on_behalf_of: { issuer: people }
`;
}
