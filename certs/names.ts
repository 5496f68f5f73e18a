import { isIP } from 'node:net';

const dnsName =
  /^(?=.{1,253}$)(?:\*\.)?(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9])?\.)*[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/i;

/** Whether a certificate can carry this as a DNS name; a wildcard is its first label or nowhere. */
export function isDnsName(text: string): boolean {
  return dnsName.test(text) && isIP(text) === 0;
}

/** Whether a certificate can carry this as an IP address: v4 or v6, without brackets and without a zone. */
export function isAddress(text: string): boolean {
  return isIP(text) !== 0 && !text.includes('%');
}

/** An address as isAddress takes it, in one form for all: a certificate has its octets, and v6 has many forms. */
export function canonicalAddress(ip: string): string {
  return isIP(ip) === 6 ? new URL(`http://[${ip}]/`).hostname.replaceAll(/[[\]]/g, '') : ip;
}

/** Parser of what a server is reached by: a DNS name, also with a wildcard, or an IP address. */
export function hostName(): (text: string) => string {
  return (text) => {
    // A certificate could carry 10.0.0.256 as a name, but nobody ever connects to it.
    if (isAddress(text) || (isDnsName(text) && !/(?:^|\.)\d+$/.test(text))) return text;
    throw new Error(
      'expected a DNS name such as rabbit.example.org or *.example.org (xn-- where letters are not ASCII), or an IP address without brackets and zone',
    );
  };
}

/** A Service of Kubernetes. */
export interface Service {
  readonly name: string;
  readonly namespace: string;
}

const label = (most: number): string => `[a-z0-9](?:[a-z0-9-]{0,${most - 2}}[a-z0-9])?`;
/** With `-nodes` behind it the name of the Service has to be a label too. */
const maxService = 63 - '-nodes'.length;
const service = new RegExp(`^(${label(maxService)})\\.(${label(63)})$`);

/** Parser of NAME.NAMESPACE. */
export function serviceName(): (text: string) => Service {
  return (text) => {
    const [, name, namespace] = service.exec(text) ?? [];
    if (name === undefined || namespace === undefined) {
      throw new Error(
        `expected NAME.NAMESPACE as in rabbitmq.openstack, with a NAME of at most ${maxService} characters`,
      );
    }
    return { name, namespace };
  };
}

/**
 * The names by which the pods of a cluster reach RabbitMQ: the Service, and each pod behind the headless Service
 * NAME-nodes of RabbitMQ's cluster-operator.
 */
export function serviceHosts({ name, namespace }: Service): string[] {
  const domains = [namespace, `${namespace}.svc`, `${namespace}.svc.cluster.local`];
  return [
    name,
    ...domains.map((domain) => `${name}.${domain}`),
    ...domains.map((domain) => `*.${name}-nodes.${domain}`),
  ];
}
