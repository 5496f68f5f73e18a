import { ANNOTATION, PROXY_CONTAINER } from '../common/contract.ts';
import { LIST_OF } from './form.ts';
import type { Form } from './form.ts';
import { canonical, fingerprint, same } from '../common/kube/json.ts';
import { RULES_VOLUME } from './rules.ts';
import { sidecarFingerprint } from './sidecar.ts';
import { formOf } from './status.ts';
import type { Injected } from './status.ts';
import type { JsonObject } from '../common/kube/types.ts';

/** Where people should say what they wrote into a field that the injection manages. */
const INSTEAD: Readonly<Record<string, string>> = {
  image: ANNOTATION.proxyImage,
  resources: ANNOTATION.proxyResources,
  args: ANNOTATION.proxyArgs,
  restartPolicy: ANNOTATION.sidecarMode,
};

/**
 * Warnings that name the managed fields which somebody edited since the last injection and which are put back. A field
 * that differs because an annotation or Quorumbridge's version changed is none: the fingerprints tell the two apart.
 */
export function editWarnings(
  before: {
    status: Injected | undefined;
    container: JsonObject | undefined;
    form: Form | undefined;
    rules: JsonObject | undefined;
    config: string | undefined;
  },
  after: { status: Injected; container: JsonObject; rules: JsonObject | undefined },
): string[] {
  const { status, container, form, rules, config } = before;
  if (status === undefined) return [];
  const warnings: string[] = [];
  if (container === undefined) {
    warnings.push(
      `container ${PROXY_CONTAINER} was taken out by hand and is put back: use the annotation ${ANNOTATION.inject}: "false"`,
    );
  } else if (sidecarFingerprint(container) !== status.sidecar) {
    const fields = new Set([...Object.keys(container), ...Object.keys(after.container)]);
    for (const field of [...fields]
      .filter((field) => !same(container[field], after.container[field]))
      .sort()) {
      const instead = INSTEAD[field];
      const hint = instead === undefined ? '' : `: use the annotation ${instead}`;
      warnings.push(`container ${PROXY_CONTAINER}: ${field} was edited by hand and is put back${hint}`);
    }
  }
  if (form !== undefined && form !== formOf(status)) {
    warnings.push(
      `container ${PROXY_CONTAINER} was moved to ${LIST_OF[form]} by hand and is put back: use the annotation ${ANNOTATION.sidecarMode}`,
    );
  }
  if (after.rules !== undefined && isEdited(status.rules, rules) && !same(rules, after.rules)) {
    warnings.push(
      `volume ${RULES_VOLUME} was edited by hand and is put back: use the annotation ${ANNOTATION.rules}`,
    );
  }
  if (config !== undefined && fingerprint(config) !== status.config) {
    warnings.push("RabbitMQ's injected listeners were edited by hand and are put back");
  }
  return warnings;
}

/** True when the volume is not the one that was written; where none was, there is nothing to edit. */
function isEdited(written: string | undefined, volume: JsonObject | undefined): boolean {
  return written !== undefined && (volume === undefined || fingerprint(canonical(volume)) !== written);
}
