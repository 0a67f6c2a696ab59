"""What runs when: one file a flow, over the stage tasks of `tasks.stages`."""
