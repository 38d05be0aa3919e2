-- The slots of an instance are unique by the index that the model declares.
DROP INDEX "volume_slot";
