/** Who may what in a group, as `docs/roles.md` has it: to offer only what the server would allow. Pure. */

/** The roles by rank. */
export const ROLES = ['member', 'admin', 'owner'];

function rank(role: string): number {
  return ROLES.indexOf(role);
}

/** Add people, rename, change settings, delete others' messages. */
export function mayManage(role: string): boolean {
  return rank(role) >= rank('admin');
}

export function mayRemove(role: string, other: string): boolean {
  return role === 'owner' || (role === 'admin' && other === 'member');
}

export function mayGiveRoles(role: string): boolean {
  return role === 'owner';
}

/** The highest roles first, then by name. */
export function byRole(one: { role: string; name: string }, other: { role: string; name: string }): number {
  return rank(other.role) - rank(one.role) || one.name.localeCompare(other.name);
}
