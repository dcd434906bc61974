import type { Page } from "./page.ts";
import { approvalPages } from "./pages/approvals.ts";
import { filePages } from "./pages/files.ts";
import { signInPages } from "./pages/sign-in.ts";
import { startPages } from "./pages/start.ts";

/** Every page. What is not here is not served. */
export function createPages(): readonly Page[] {
  return [...startPages, ...signInPages(), ...approvalPages, ...filePages];
}
