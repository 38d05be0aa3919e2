/** The network address of who has an image of Ceph open, as Ceph tells it: `10.0.0.5:0/123` or `[fd00::5]:0/123`. */
export const addressOfWatcher = (watcher: string): string => watcher.replace(/:\d+\/\d+$/, '').replace(/^\[|\]$/g, '');
