/** A request for a page of the console, read strictly by the edge and judged by nobody yet. */
export interface PageRequest {
  readonly requestId: string;
  readonly method: string;
  /** Below the issuer's path; percent-encoding is left alone. */
  readonly path: string;
  readonly query: string | undefined;
  readonly cookies: string | undefined;
  readonly origin: string | undefined;
  /** `Sec-Fetch-Site`: where the browser says that the request comes from. */
  readonly fetchSite: string | undefined;
  readonly contentType: string | undefined;
  /** The client's address. */
  readonly remoteAddress: string;
  readonly receivedAtMs: number;
  readonly signal: AbortSignal;
  /** The body, within the edge's bound. */
  readonly read: () => Promise<Uint8Array>;
}

/** What goes back. */
export interface PageAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | readonly string[]>>;
  readonly body: string;
}
