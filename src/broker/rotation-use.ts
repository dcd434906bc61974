import type { Resource } from "../core/trust/model.ts";
import type { BrokerDeps } from "./deps.ts";
import type { CredentialProvider, SecretRotation } from "./provider.ts";

/** The resource through which a secret is replaced. */
export interface RotationUse {
  readonly secret: string;
  readonly resource: string;
  readonly provider: CredentialProvider;
  readonly rotation: SecretRotation<unknown>;
  readonly settings: unknown;
}

/** Why a secret cannot be replaced by us. */
export type NoRotation =
  /** No credential resource uses it. */
  | "unused"
  /** Something that uses it knows no way: a value that only its owner can change. */
  | "kind"
  /** Resources use it at several places: changed at one, it would be wrong at the others. */
  | "several_places";

/** What can be done about a secret. `resources` use it, in the order of names. */
export type RotationChoice =
  | { readonly use: RotationUse; readonly resources: readonly string[] }
  | { readonly no: NoRotation; readonly resources: readonly string[] };

/** Looks at everything that uses a secret. Where all of it is one place of one kind, the first by name is as good as any. */
export function rotationUse(deps: Pick<BrokerDeps, "kinds" | "trust">, secret: string): RotationChoice {
  const uses = deps
    .trust()
    .all()
    .resources.flatMap((resource) => useOf(deps, secret, resource) ?? [])
    .sort((a, b) => (a.resource < b.resource ? -1 : 1));
  const resources = uses.map(({ resource }) => resource);
  const able = uses.flatMap((use) => withRotation(use) ?? []);
  const [first] = able;
  if (uses.length === 0) return { no: "unused", resources };
  if (first === undefined || able.length < uses.length) return { no: "kind", resources };
  const places = new Set(
    able.map(({ provider, rotation, settings }) => `${provider.kind} ${rotation.place(settings)}`),
  );
  return places.size === 1 ? { use: first, resources } : { no: "several_places", resources };
}

/** As one resource uses it; undefined where it does not, or cannot replace it. */
export function rotationUseOf(
  deps: Pick<BrokerDeps, "kinds">,
  secret: string,
  resource: Resource,
): RotationUse | undefined {
  const use = useOf(deps, secret, resource);
  return use && withRotation(use);
}

function useOf(
  { kinds }: Pick<BrokerDeps, "kinds">,
  secret: string,
  resource: Resource,
): Omit<RotationUse, "rotation"> | undefined {
  if (resource.kind !== "credential") return undefined;
  const provider = kinds.get(resource.provider);
  const settings = provider?.settings.safeParse(resource.settings);
  if (!provider || !settings?.success) return undefined;
  const isUsed =
    provider.secrets(settings.data).includes(secret) || provider.rotation?.covers(settings.data, secret) === true;
  return isUsed ? { secret, resource: resource.name, provider, settings: settings.data } : undefined;
}

function withRotation(use: Omit<RotationUse, "rotation">): RotationUse | undefined {
  const { rotation } = use.provider;
  return rotation?.covers(use.settings, use.secret) === true ? { ...use, rotation } : undefined;
}
