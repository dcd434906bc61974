/** Differences that are meant, by revision and scenario: the list is in docs/mcp.md too. */
export const EXPLAINED: Readonly<Record<string, string>> = {};
