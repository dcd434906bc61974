import { CALL_COLUMN } from "../approvals/sealed-call.ts";
import { HANDLE_COLUMN } from "../broker/leases.ts";
import type { Config, KekSource } from "../config.ts";
import type { Db } from "../db/database.ts";
import { KEY_COLUMN } from "../keys/key-column.ts";
import { isFirstStart } from "../keys/keys.ts";
import type { AwsSigningKeys } from "../system/aws-signature.ts";
import type { ResolveAll } from "../system/egress-connector.ts";
import { createEgress, type Egress } from "../system/egress.ts";
import type { Log } from "../system/log.ts";
import type { KeyEncryptionKey } from "../vault/envelope.ts";
import { awsKmsWrapper } from "../vault/kek-aws-kms.ts";
import type { RootShelf, RootWrapper } from "../vault/kek-root.ts";
import { vaultTransitWrapper } from "../vault/kek-vault-transit.ts";
import { openKek } from "../vault/kek.ts";
import { type SealedColumn, sealedUnderOthers } from "../vault/rewrap.ts";
import { SSF_HEADER_COLUMN } from "../revocation/ssf-streams.ts";
import { RECORDING_COLUMN } from "../proxy/recording.ts";
import { SECRET_COLUMN } from "../vault/secrets.ts";

/** Everything that lies sealed in the database. */
export const SEALED_COLUMNS: readonly SealedColumn[] = [
  KEY_COLUMN,
  SECRET_COLUMN,
  HANDLE_COLUMN,
  SSF_HEADER_COLUMN,
  RECORDING_COLUMN,
  CALL_COLUMN,
];

/**
 * The key that seals, and those that only open; the latter are never made.
 *
 * @throws {KekRefusedError | PrivateFileError}
 */
export async function openKeks(
  config: Config,
  o: { db: Db; resolve: ResolveAll | undefined },
): Promise<{ kek: KeyEncryptionKey; previous: readonly KeyEncryptionKey[] }> {
  const { db, resolve } = o;
  // For the start alone: afterwards nobody is asked.
  const egress = createEgress(resolve === undefined ? {} : { resolve });
  const shelf = rootShelf(db);
  const open = async (from: KekSource, seals: boolean): Promise<KeyEncryptionKey> =>
    await openKek(from.source, {
      readEnvironment: () => from.value?.reveal(),
      mayCreate: async () => seals && (await isFirstStart(db)),
      wrapper: () => wrapperOf(from, config, egress),
      shelf,
    });
  try {
    const kek = await open(config.kek, true);
    return { kek, previous: config.kekPrevious === null ? [] : [await open(config.kekPrevious, false)] };
  } finally {
    egress.close();
  }
}

function wrapperOf(from: KekSource, { aws }: Config, egress: Egress): RootWrapper | undefined {
  const [kind] = from.source.split(":", 1);
  const rest = from.source.slice((kind?.length ?? 0) + 1);
  if (kind === "awskms")
    return awsKmsWrapper({ keyArn: rest, keys: () => awsKeys(aws), egress, endpoint: from.endpoint });
  if (kind !== "vault-transit") return undefined;
  const at = rest.lastIndexOf("#");
  const token = (): string => from.value?.reveal() ?? "";
  return vaultTransitWrapper({
    url: rest.slice(0, at),
    key: rest.slice(at + 1),
    token,
    namespace: from.namespace,
    egress,
  });
}

/** Those of the configuration; without them whatever role AWS gives this machine, task or pod, by AWS's own search. */
async function awsKeys(aws: Config["aws"]): Promise<AwsSigningKeys> {
  if (aws !== null) {
    const { accessKeyId, secretAccessKey, sessionToken } = aws;
    const secret = { accessKeyId, secretAccessKey: secretAccessKey.reveal() };
    return sessionToken === null ? secret : { ...secret, sessionToken: sessionToken.reveal() };
  }
  const { STSClient } = await import("@aws-sdk/client-sts");
  const client = new STSClient({ region: "us-east-1" });
  try {
    const { accessKeyId, secretAccessKey, sessionToken } = await client.config.credentials();
    return { accessKeyId, secretAccessKey, ...(sessionToken !== undefined && { sessionToken }) };
  } finally {
    client.destroy();
  }
}

function rootShelf(db: Db): RootShelf {
  const name = (source: string): string => `root-key ${source}`;
  const read = async (source: string): Promise<string | undefined> => {
    const [row] = await db.query<{ value: string }>("select value from ephor.house where name = $1", [name(source)]);
    return row?.value;
  };
  return {
    read,
    async keep(source, wrapped) {
      await db.query("insert into ephor.house (name, value) values ($1, $2) on conflict (name) do nothing", [
        name(source),
        wrapped,
      ]);
      return (await read(source)) ?? wrapped;
    },
  };
}

/** Tells of values under a key that was taken away before they were rewrapped: else they are missed only when they are needed. */
export async function tellUnopenable(db: Db, keks: readonly KeyEncryptionKey[], log: Log): Promise<void> {
  const ids = keks.map(({ id }) => id);
  const { count, names } = await sealedUnderOthers(db, SEALED_COLUMNS, ids);
  if (count === 0) return;
  const some = names.map(({ sort, name }) => `${sort} ${name}`).join(", ");
  log.error("sealed_values_do_not_open", {
    count,
    note:
      `under another key-encryption key than ours: ${some}${count > names.length ? " and more" : ""}; ` +
      "name that key as kek_previous, start again, and run: ephor keys rewrap",
  });
}
