import { compileGlob, type Glob } from '../policy/glob.ts';
import { type Address, type AddressRange, inRange, isLoopback } from './address.ts';

/** Users that may reach virtual hosts: patterns with `*` and `?`. */
export interface UserVhosts {
  readonly user: string;
  readonly virtualHost: string;
}

/** The same, compiled. */
interface Match {
  readonly user: Glob;
  readonly virtualHost: Glob;
}

export function compileUserVhosts({ user, virtualHost }: UserVhosts): Match {
  return { user: compileGlob(user), virtualHost: compileGlob(virtualHost) };
}

/** Who may come. */
export interface AccessRules {
  /** Where there is one, others are refused. */
  readonly allow: readonly AddressRange[];
  /** Before {@link allow}. */
  readonly deny: readonly AddressRange[];
  /** Where there is one, what none lets in is refused. */
  readonly userVhosts: readonly Match[];
  readonly guestLoopbackOnly: boolean;
}

/** The user that brokers make at their first start, and keep to loopback (loopback_users). */
const GUEST = 'guest';

/** RabbitMQ from 4.0 on logs its users in as guest. */
const ANONYMOUS = 'ANONYMOUS';

/** Parser of USER=VHOST, each a pattern with `*` and `?`; the first `=` parts them. */
export function parseUserVhosts(text: string): UserVhosts {
  const [, user, virtualHost] = /^([^=]+)=(.+)$/s.exec(text) ?? [];
  if (user === undefined || virtualHost === undefined)
    throw new Error('expected USER=VHOST, each with * and ? as wildcards, as in nova=openstack or *=/');
  return { user, virtualHost };
}

/** Why connections from this address aren't taken; undefined: they are. */
export function refusesAddress({ allow, deny }: AccessRules, address: Address): string | undefined {
  if (deny.some((range) => inRange(address, range))) return 'its address is denied (--deny)';
  if (allow.length === 0 || allow.some((range) => inRange(address, range))) return undefined;
  return 'its address is not among those that are allowed (--allow)';
}

/** Why a login isn't passed on to the broker; undefined: it is. @param user undefined where the mechanism doesn't tell */
export function refusesLogin(
  { guestLoopbackOnly }: AccessRules,
  user: string | undefined,
  mechanism: string | undefined,
  address: Address,
): string | undefined {
  if (!guestLoopbackOnly || (user !== GUEST && mechanism !== ANONYMOUS) || isLoopback(address))
    return undefined;
  return `user '${GUEST}' can only connect via localhost (--guest-loopback-only)`;
}

/** Why a user may not open a virtual host; undefined: it may. @param user undefined: only rules for `*` let it in */
export function refusesVirtualHost(
  { userVhosts }: AccessRules,
  user: string | undefined,
  virtualHost: string,
): string | undefined {
  if (userVhosts.length === 0) return undefined;
  const name = user ?? '';
  if (userVhosts.some((rule) => rule.user(name) && rule.virtualHost(virtualHost))) return undefined;
  return `access to vhost '${virtualHost}' refused for user '${name}' (--user-vhosts)`;
}
