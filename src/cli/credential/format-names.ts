/** How `ephor credential` prints: the protocol of the tool that calls it as its helper (CONTRACT §9). */
export const FORMATS = ["aws", "env", "json", "git", "kubectl", "docker", "psql"] as const;

/** One of {@link FORMATS}. */
export type Format = (typeof FORMATS)[number];
