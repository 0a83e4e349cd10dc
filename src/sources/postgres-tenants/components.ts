/**
 * Strongly connected components of a directed graph (Tarjan), those that an edge leads to before those it comes from: of
 * tables that refer to each other in a circle, or to themselves, none can be told without the others.
 */
export function components<T>(nodes: readonly T[], targetsOf: (node: T) => Iterable<T>): T[][] {
  const order = new Map<T, number>()
  const low = new Map<T, number>()
  const stack: T[] = []
  const isOnStack = new Set<T>()
  const found: T[][] = []
  const visit = (node: T): void => {
    order.set(node, order.size)
    low.set(node, order.get(node)!)
    stack.push(node)
    isOnStack.add(node)
    for (const target of targetsOf(node)) {
      if (!order.has(target)) {
        visit(target)
        low.set(node, Math.min(low.get(node)!, low.get(target)!))
      } else if (isOnStack.has(target)) low.set(node, Math.min(low.get(node)!, order.get(target)!))
    }
    if (low.get(node) !== order.get(node)) return
    const component = stack.splice(stack.indexOf(node))
    for (const member of component) isOnStack.delete(member)
    found.push(component)
  }
  for (const node of nodes) if (!order.has(node)) visit(node)
  return found
}
