-- Whether a script that writes may run on the master of this key: a full, read-only or absent one answers by itself.
return 1
