import type { z } from "zod";
import type { PageRequest } from "../api/pages.ts";
import type { Reason } from "../core/oauth/reasons.ts";
import { html, type Markup, type Part } from "./html.ts";

/** An answer of `/v1`. */
export interface ApiAnswer {
  readonly status: number;
  readonly json: unknown;
}

/** A call of `/v1` in process. */
export interface ApiOrder {
  readonly method: "GET" | "POST";
  readonly path: string;
  readonly query?: Readonly<Record<string, string>>;
  readonly body?: unknown;
}

/** Whoever is signed in, for the time of one request. */
export interface Viewer {
  /** As the ledger names him: `operator:operator` for the key, `operator:<name>`, or `human:<sub>`. */
  readonly name: string;
  /** How he came. */
  readonly kind: "key" | "person";
  /** Of a person: which human of which issuer. */
  readonly person: { readonly issuer: string; readonly sub: string; readonly authTime: number | undefined } | undefined;
  /** Of a person who is an operator: its name in the trust file. */
  readonly operator: string | undefined;
  /** Epoch seconds. */
  readonly expiresAt: number;
  /** Goes into each form; a form without it is not ours. */
  readonly csrf: string;
  /** In constant time. */
  readonly isOurForm: (proof: string) => boolean;
  /** Asks `/v1` as him. */
  readonly api: (order: ApiOrder) => Promise<ApiAnswer>;
}

/** What the console needs of the house, beside `/v1`. */
export interface ConsolePorts {
  readonly find: (request: PageRequest) => Promise<Viewer | undefined>;
  /** @returns the `Set-Cookie` value; undefined for a key that is none, which is recorded */
  readonly signInByKey: (key: string, request: PageRequest) => Promise<string | undefined>;
  /** The issuers at which people sign in, by name. */
  readonly issuers: () => readonly string[];
  /** @returns undefined where there is no such issuer; throws what is no bug as an `OAuthError` */
  readonly beginSignIn: (
    order: { readonly issuer: string; readonly next: string; readonly fresh: boolean },
    request: PageRequest,
  ) => Promise<{ readonly location: string; readonly cookie: string } | undefined>;
  /** Somebody comes back from his issuer. Records it, whatever comes of it. */
  readonly completeSignIn: (request: PageRequest) => Promise<SignInEnded>;
  /** @returns the `Set-Cookie` value that ends it in the browser too */
  readonly signOut: (which: "this" | "all", request: PageRequest) => Promise<string>;
  /** Records a refusal that no room of the API saw. @param by whoever is signed in, as the ledger names them */
  readonly refused: (reason: RefusalReason, request: PageRequest, by?: string) => void;
}

/** How a sign-in at an issuer ended. */
export interface SignInEnded {
  /** `Set-Cookie` values. */
  readonly cookies: readonly string[];
  /** Where to go on; a page of ours. Absent: it was refused. */
  readonly next?: string;
  readonly refusal?: Reason;
}

/** Why the console itself refuses. */
export type RefusalReason =
  | "session_missing"
  | "form_forged"
  | "malformed_request"
  | "parameter_repeated"
  | "parameter_invalid"
  | "content_type"
  | "body_too_large"
  | "method_not_allowed"
  | "rate_limited";

/** What a page's handler gets. */
export interface Incoming<Q, F> {
  readonly params: Readonly<Record<string, string>>;
  readonly query: Q;
  readonly fields: F;
  /** There wherever the page is for those who are signed in. */
  readonly viewer: Viewer | undefined;
  readonly request: PageRequest;
  readonly ports: ConsolePorts;
  /** An address of ours, with the issuer's own path before it. */
  readonly at: (path: string) => string;
}

/** What a page's handler answers. */
export type Answer =
  | {
      readonly kind: "page";
      readonly status?: number;
      readonly title: string;
      readonly main: Markup;
      readonly refresh?: string;
      readonly cookies?: readonly string[];
    }
  /** To an issuer, where somebody signs in. */
  | { readonly kind: "away"; readonly location: string; readonly cookie: string }
  /** To another page of ours, by GET. */
  | { readonly kind: "redirect"; readonly to: string; readonly cookie?: string }
  | { readonly kind: "file"; readonly type: string; readonly text: string };

/** A page as a value: the console serves what is in its list, and tests go through all of it. */
export interface PageSpec<Q extends z.ZodType, F extends z.ZodType> {
  readonly method: "GET" | "POST";
  /** With parameters in braces. */
  readonly path: string;
  readonly access: "anyone" | "signed-in";
  /** Nobody's in particular: who asks is not looked at. */
  readonly isFile?: boolean;
  /** Without it any query is refused. */
  readonly query?: Q;
  /** Its query is not ours to read. */
  readonly isQueryForeign?: boolean;
  /** What its form sends, beside the proof. */
  readonly fields?: F;
  readonly handle: (incoming: Incoming<z.output<Q>, z.output<F>>) => Promise<Answer> | Answer;
}

/** Any page. */
export interface Page extends Omit<PageSpec<z.ZodType, z.ZodType>, "handle"> {
  // oxlint-disable-next-line typescript/no-explicit-any -- the shapes of this very value made the arguments
  readonly handle: (incoming: Incoming<any, any>) => Promise<Answer> | Answer;
}

/** Makes a page, so that its handler's arguments have the types of its shapes. */
export function page<Q extends z.ZodType = z.ZodUndefined, F extends z.ZodType = z.ZodUndefined>(
  spec: PageSpec<Q, F>,
): Page {
  return spec;
}

/** Shown in place of a page: what is wrong and what to do about it. */
export class PageError extends Error {
  override readonly name = "PageError";
  readonly status: number;
  readonly title: string;
  readonly advice: Part;

  constructor(status: number, title: string, advice: Part) {
    super(title);
    this.status = status;
    this.title = title;
    this.advice = advice;
  }
}

/** A page that is not there, or not for whoever asks. */
export function nothingHere(): PageError {
  return new PageError(
    404,
    "There is nothing here",
    html`The address may be incomplete, what it named may be gone, or it is not for you to see.`,
  );
}
