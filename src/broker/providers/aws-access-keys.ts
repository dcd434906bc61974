import type { Egress } from "../../system/egress.ts";
import { ProviderError } from "../provider-error.ts";
import { askAws, elementOf, type AwsQueryTarget } from "./aws-query.ts";
import type { AwsKeys } from "./aws-sts.ts";

/** Keys that one user may have. Some more, so that another limit of AWS would not stop us. */
const MAX_KEYS = 10;

/** How AWS writes what it makes. */
const FORM = {
  id: /^\w{16,128}$/,
  secret: /^[\w+/=]{16,1024}$/,
  date: /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?Z$/,
} as const;

/** An access key, as IAM lists it. */
export interface ListedKey {
  readonly id: string;
  /** Epoch seconds by AWS's clock. */
  readonly createdAt: number;
}

/** Calls about the keys of the user whose key signs them: none names a user. */
export interface AccessKeys {
  /** @returns the user's keys, and AWS's time */
  list(): Promise<{ keys: readonly ListedKey[]; at: number }>;
  /** @throws {ProviderError} `order_refused`, `second_key_exists`: a user has two at most */
  create(): Promise<AwsKeys>;
  /** Inactive, then deleted. One that is gone is fine. */
  end(id: string): Promise<void>;
}

/** @throws each of the calls {ProviderError} */
export function accessKeysOf(at: {
  readonly egress: Egress;
  readonly target: AwsQueryTarget;
  readonly keys: AwsKeys;
  readonly signal: AbortSignal;
}): AccessKeys {
  return {
    async list() {
      const { xml, at: time } = await askAws({ ...at, action: "ListAccessKeys" });
      const members = xml.split("<member>").slice(1);
      if (members.length > MAX_KEYS || elementOf(xml, "IsTruncated", /^(?:true|false)$/) !== "false")
        throw new ProviderError("answer_malformed");
      return { keys: members.map(listedKey), at: time };
    },
    async create() {
      const { xml } = await askAws({ ...at, action: "CreateAccessKey" }).catch((error: unknown) => {
        throw error instanceof ProviderError && error.code === "LimitExceeded" ? secondKeyExists() : error;
      });
      return {
        accessKeyId: elementOf(xml, "AccessKeyId", FORM.id),
        secretAccessKey: elementOf(xml, "SecretAccessKey", FORM.secret),
      };
    },
    async end(id) {
      try {
        await askAws({ ...at, action: "UpdateAccessKey", parameters: { AccessKeyId: id, Status: "Inactive" } });
        await askAws({ ...at, action: "DeleteAccessKey", parameters: { AccessKeyId: id } });
      } catch (error) {
        if (!(error instanceof ProviderError) || error.code !== "NoSuchEntity") throw error;
      }
    },
  };
}

/** A user has two keys at most, and one that is not ours is nobody's to end but its owner's. */
export function secondKeyExists(): ProviderError {
  return new ProviderError("order_refused", { code: "second_key_exists" });
}

function listedKey(member: string): ListedKey {
  const inside = member.slice(0, Math.max(0, member.indexOf("</member>")));
  const createdAt = Date.parse(elementOf(inside, "CreateDate", FORM.date));
  if (Number.isNaN(createdAt)) throw new ProviderError("answer_malformed");
  return { id: elementOf(inside, "AccessKeyId", FORM.id), createdAt: Math.floor(createdAt / 1000) };
}
