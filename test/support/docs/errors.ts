import { PROXY_ERRORS, type ProxyErrorCode } from '../../../proxy/errors.ts';
import { CONDITION_REASONS } from '../../../reconciler/conditions.ts';
import { REQUEST_ERRORS, type RequestErrorReason } from '../../../webhook/errors.ts';
import { PROXY_ERROR_TEXTS, RECONCILER_ERRORS, WEBHOOK_ERROR_TEXTS } from './error-texts.ts';
import { code, table } from './table.ts';

function ofProxy(): string {
  const rows = (Object.keys(PROXY_ERRORS) as ProxyErrorCode[]).map((name) => {
    const { happened, told, remedy } = PROXY_ERROR_TEXTS[name];
    return [code(name), PROXY_ERRORS[name], happened, told, remedy];
  });
  return table(['code', 'class', 'what happened', 'what the client gets', 'what to do'], rows);
}

function ofWebhook(): string {
  const rows = (Object.keys(REQUEST_ERRORS) as RequestErrorReason[]).map((reason) => {
    const text = WEBHOOK_ERROR_TEXTS[reason];
    return [code(reason), String(REQUEST_ERRORS[reason]), text.class, text.happened, text.remedy];
  });
  return table(['reason', 'HTTP status', 'class', 'what happened', 'what to do'], rows);
}

function ofReconciler(): string {
  const rows = Object.entries(RECONCILER_ERRORS).flatMap(([type, reasons]) => {
    const meanings: Readonly<Record<string, string>> =
      CONDITION_REASONS[type as keyof typeof RECONCILER_ERRORS];
    return Object.entries(reasons).map(([reason, kind]) => [
      code(type),
      code(reason),
      kind,
      meanings[reason]!,
    ]);
  });
  return table(['condition', 'reason', 'class', 'what happened'], rows);
}

/** The error codes of each program. */
export function errorTables(): [name: string, table: string][] {
  return [
    ['errors of proxy', ofProxy()],
    ['errors of webhook', ofWebhook()],
    ['errors of reconciler', ofReconciler()],
  ];
}
