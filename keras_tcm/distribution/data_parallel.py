"""One model trained by several processes of PyTorch."""

import keras


def data_parallel(model: keras.Model) -> keras.Model:
    """Make `fit`, run by every process of a group, train one model on PyTorch.

    Up to version 3.15, Keras knows nothing of `torch.distributed`: each process would
    train a model of its own. This gives all of them the weights of rank 0 and lets them
    average the gradients of each step and add up what metrics count, as Keras does
    itself from 3.16 on (there, this changes nothing). Then every process holds the same
    weights after every step and logs the same values.

    Call it once, after `model` is built and its layers are frozen or not, before
    `fit`. Without an initialised process group, or with a single process, it changes
    nothing: the same script runs on one device.

    Args:
        model: A built `keras.Model`. Every process must have the same.

    Returns:
        The same model.

    Raises:
        RuntimeError: If the backend is not torch. JAX has
            `keras.distribution.DataParallel`, TensorFlow `tf.distribute`. In training,
            if another process failed or does not answer in time.
        TypeError: If `model` is not a Keras model.
        ValueError: If `model` is not built.

    Example:

    ```python
    torch.distributed.init_process_group("gloo", timeout=timedelta(minutes=2))
    model = keras_tcm.distribution.data_parallel(
        keras_tcm.models.embedding_model(backbone, embedding_dim=128)
    )
    model.compile("adam", loss=keras_tcm.TCM())
    model.fit(batches_of_this_rank, shuffle=False)
    ```
    """
    backend = keras.backend.backend()
    if backend != "torch":
        raise RuntimeError(
            "`data_parallel` is for the backend 'torch'. With JAX, call "
            "`keras.distribution.set_distribution(keras.distribution.DataParallel())`; "
            "with TensorFlow, build and compile the model under "
            "`tf.distribute.MirroredStrategy().scope()`. Received: "
            f"keras.backend.backend()={backend!r}"
        )
    if not isinstance(model, keras.Model):
        raise TypeError(f"`model` must be a Keras model. Received: model={model!r}")
    if not model.built:
        raise ValueError(
            "`model` must be built, so that there are weights to share: call it on a "
            f"batch, or give it an input shape. Received: model={model!r}"
        )
    from keras_tcm.distribution.torch_backend import synchronize

    synchronize(model)
    return model
