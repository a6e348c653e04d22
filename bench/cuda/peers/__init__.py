"""The other side on a device, each in its own idiom: functions by the op's name, with the op's parameters.

``out`` is where an op's last result goes, for those that take one. Nobody waits for the device: losses are arrays.
"""
