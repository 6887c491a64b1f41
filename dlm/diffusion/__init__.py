"""The mathematics: functions of tensors alone.

Shape suffixes: B rows, L positions of a row, M masked positions of a batch, N slots of a canvas,
V vocabulary.
"""
