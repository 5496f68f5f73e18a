import { splitPem } from '../../../common/certificate-watch.ts';
import type { CertificateStore, Registration, StoredSecret } from '../../../webhook/cert-keeper.ts';
import type { SecretData } from '../../../webhook/cert-state.ts';

export type Operation = 'readSecret' | 'writeSecret' | 'readRegistrations' | 'writeBundle';

interface Versioned<T> {
  version: number;
  value: T;
}

/** An API server's Secret and two registrations, in memory, with versions as it has them. */
export class MemoryStore implements CertificateStore {
  readonly secret = 'quorumbridge-system/quorumbridge-webhook-cert';
  stored: Versioned<SecretData> | undefined;
  annotations: Record<string, string> = {};
  readonly bundles = new Map<string, Versioned<string[]>>([
    ['MutatingWebhookConfiguration quorumbridge', { version: 1, value: ['', ''] }],
    ['ValidatingWebhookConfiguration quorumbridge', { version: 1, value: [''] }],
  ]);
  /** What was asked, in order; lost races have a question mark. */
  readonly operations: string[] = [];
  /** Called before and after each operation: may throw, wait, or change what is stored. */
  hook: (operation: Operation, when: 'before' | 'after') => void | Promise<void> = () => {};
  #version = 1;

  async readSecret(): Promise<StoredSecret | undefined> {
    return this.#run('readSecret', () => {
      const { stored, annotations } = this;
      return stored && { data: stored.value, annotations, origin: stored.version };
    });
  }

  async writeSecret(before: StoredSecret | undefined, data: SecretData): Promise<boolean> {
    return this.#run('writeSecret', () => {
      if (this.stored?.version !== before?.origin) return false;
      this.stored = { version: ++this.#version, value: data };
      return true;
    });
  }

  async readRegistrations(): Promise<Registration[]> {
    return this.#run('readRegistrations', () =>
      [...this.bundles].map(([id, { version, value }]) => ({
        id,
        webhooks: value.map((caBundle, index) => ({ name: `webhook-${index}`, caBundle })),
        origin: version,
      })),
    );
  }

  async writeBundle({ id, webhooks, origin }: Registration, bundle: string): Promise<boolean> {
    return this.#run('writeBundle', () => {
      if (this.bundles.get(id)?.version !== origin) return false;
      this.setBundle(id, webhooks.length, bundle);
      return true;
    });
  }

  /** As somebody else would: `kubectl apply` of a manifest without a caBundle, for example. */
  setBundle(id: string, webhooks: number, bundle: string): void {
    this.bundles.set(id, {
      version: ++this.#version,
      value: Array.from({ length: webhooks }, () => bundle),
    });
  }

  wipe(): void {
    for (const [id, { value }] of this.bundles) this.setBundle(id, value.length, '');
  }

  setSecret(data: SecretData): void {
    this.stored = { version: ++this.#version, value: data };
  }

  /** The CAs that every webhook of every registration trusts. */
  trusted(): string[] {
    const lists = [...this.bundles.values()].flatMap(({ value }) => value.map((one) => splitPem(one)));
    return (lists[0] ?? []).filter((cert) => lists.every((list) => list.includes(cert)));
  }

  async #run<T>(operation: Operation, perform: () => T): Promise<T> {
    await this.hook(operation, 'before');
    const result = perform();
    this.operations.push(result === false ? `${operation}?` : operation);
    await this.hook(operation, 'after');
    return result;
  }
}
