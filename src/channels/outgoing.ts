/** What is sent, apart from where its secrets come from. */
export interface Outgoing {
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

/** Where a message lies at its channel, so that it can be changed and a click be traced to it. */
export type MessagePlace = Readonly<Record<string, string>>;

/**
 * What became of one try: it is there; this message will never be taken; or nothing is taken now, and it is tried again.
 * `problem` is a short word of ours or of the channel's, never its text.
 */
export type Sent =
  | { readonly kind: "sent"; readonly place: MessagePlace | undefined }
  | { readonly kind: "refused"; readonly problem: string }
  | { readonly kind: "retry"; readonly problem: string; readonly afterMs: number };
