import type { MODES } from '../../common/contract.ts';
import { UsageError } from '../../common/errors.ts';
import { filePath, oneOf, type OptionTable, type OptionValues } from '../../common/options.ts';
import { Credentials } from './credentials.ts';

/** The options of `quorumbridge proxy` that say who logs in. */
export const credentialOptions = {
  credentials: {
    name: 'credentials',
    argument: 'FILE',
    env: 'QUORUMBRIDGE_CREDENTIALS',
    description:
      'Who may log in, by password or certificate, and as whom the proxy then logs in at the backend: YAML or JSON, read at the start and at a reload. Without it the backend alone decides.',
    parse: filePath(),
  },
} as const satisfies OptionTable;

/** The options of `quorumbridge credentials`. */
export const hashOptions = {
  action: {
    name: 'action',
    argument: 'ACTION',
    env: 'QUORUMBRIDGE_ACTION',
    description:
      'What to do: hash reads a password from standard input and prints what stands for it in a credentials file; the first argument says it too.',
    required: true,
    parse: oneOf('hash'),
  },
} as const satisfies OptionTable;

interface Given extends OptionValues<typeof credentialOptions> {
  readonly mode: (typeof MODES)[number];
  readonly tlsCa: string | undefined;
}

/**
 * The credentials of the option's file; undefined without one.
 * @throws UsageError when the file can't be used, or not together with other options
 */
export function readCredentials({ credentials: path, mode, tlsCa }: Given): Credentials | undefined {
  if (path === undefined) return undefined;
  if (mode === 'observe')
    throw new UsageError(
      'option --credentials: mode observe changes nothing, and so no login: choose another --mode, or leave the credentials out',
    );
  const credentials = Credentials.read(path);
  if (credentials.knowsCertificates && tlsCa === undefined)
    throw new UsageError(
      `option --credentials: ${path} has clients with certificates, and none is asked for one: give --tls-ca`,
    );
  return credentials;
}
