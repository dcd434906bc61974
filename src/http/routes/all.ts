import type { Route } from "../route.ts";
import { approvalRoutes } from "./approvals.ts";
import { credentialRoutes } from "./credentials.ts";
import { hookRoutes } from "./hooks.ts";
import { documentRoutes } from "./documents.ts";
import { healthRoutes } from "./health.ts";
import { keyRoutes } from "./keys.ts";
import { killRoutes } from "./kill.ts";
import { ledgerRoutes } from "./ledger.ts";
import { loginRoutes } from "./login.ts";
import { metadataRoutes } from "./metadata.ts";
import { recordingRoutes } from "./recordings.ts";
import { revocationRoutes } from "./revocations.ts";
import { ssfRoutes } from "./ssf.ts";
import { signalRoutes } from "./signals.ts";
import { secretRoutes } from "./secrets.ts";
import { taskRoutes } from "./tasks.ts";
import { toolRoutes } from "./tools.ts";
import { trustRoutes } from "./trust-objects.ts";

/** Every route but the OAuth forms. What is not here is not served. */
export const routes: readonly Route[] = [
  ...metadataRoutes,
  ...loginRoutes,
  ...taskRoutes,
  ...credentialRoutes,
  ...approvalRoutes,
  ...hookRoutes,
  ...secretRoutes,
  ...killRoutes,
  ...revocationRoutes,
  ...ssfRoutes,
  ...signalRoutes,
  ...ledgerRoutes,
  ...recordingRoutes,
  ...trustRoutes,
  ...toolRoutes,
  ...keyRoutes,
  ...healthRoutes,
  ...documentRoutes,
];
