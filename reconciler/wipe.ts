// The init container that empties the storage of a node once per upgrade.
import { WIPE_CONTAINER } from '../common/contract.ts';
import type { JsonObject } from '../common/kube/types.ts';
import { parseVersion } from '../common/version.ts';

/** Where it sees the volume with RabbitMQ's data. */
const FOLDER = '/var/lib/rabbitmq';
/** The volume's name, a claim or an emptyDir, in the cluster operator's StatefulSets. */
const VOLUME = 'persistence';

export interface WipeSettings {
  /** The version that is upgraded to. */
  readonly version: string;
  /** Of the upgrade. */
  readonly sequence: number;
  /** An image with a shell: RabbitMQ's own, which the node pulls anyway. */
  readonly image: string;
  /** False where the pod runs as whoever the image says, which may be root. */
  readonly isNonRoot: boolean;
}

/**
 * Empties the volume unless its marker is there. The marker names version and upgrade, and is written last: a wipe that is cut off
 * is done again from the start, and a pod that starts again wipes nothing. Throws for a version or a sequence that is none:
 * both become part of a shell script.
 */
export function wipeContainer({ version, sequence, image, isNonRoot }: WipeSettings): JsonObject {
  const amounts = { cpu: '20m', memory: '64Mi' };
  return {
    name: WIPE_CONTAINER,
    image,
    command: ['/bin/sh', '-c', wipeScript(version, sequence)],
    env: [{ name: 'WIPE_DIR', value: FOLDER }],
    workingDir: FOLDER,
    // As the cluster operator's own init container has, so that the pod's QoS class stays what it is.
    resources: { limits: amounts, requests: amounts },
    securityContext: {
      allowPrivilegeEscalation: false,
      capabilities: { drop: ['ALL'] },
      readOnlyRootFilesystem: true,
      ...(isNonRoot ? { runAsNonRoot: true } : {}),
      seccompProfile: { type: 'RuntimeDefault' },
    },
    volumeMounts: [{ name: VOLUME, mountPath: FOLDER }],
  };
}

/**
 * Plain sh and rm: not every image has find. lost+found is the file system's, belongs to root and holds nothing of RabbitMQ's.
 * The three patterns are all names but . and .. ; one that matches nothing stands for itself, and is no file.
 */
function wipeScript(version: string, sequence: number): string {
  if (parseVersion(version) === undefined) throw new Error(`${JSON.stringify(version)} is no version`);
  if (!Number.isSafeInteger(sequence) || sequence < 1)
    throw new Error(`${sequence} is no number of an upgrade`);
  return `set -eu
marker="\${WIPE_DIR:?}/.operator-wipe-${version}-${sequence}"
if [ -e "$marker" ]; then
  echo "$marker is there: nothing is wiped"
  exit 0
fi
echo "wiping $WIPE_DIR for RabbitMQ ${version}"
for path in "$WIPE_DIR"/* "$WIPE_DIR"/.[!.]* "$WIPE_DIR"/..?*; do
  case "$path" in "$WIPE_DIR/lost+found") continue ;; esac
  if [ -e "$path" ] || [ -L "$path" ]; then rm -rf -- "$path"; fi
done
: >"$marker"
echo "wiped"
`;
}
