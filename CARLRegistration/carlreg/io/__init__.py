"""Files' headers and bytes, one place for each; SimpleITK and NumPy, never torch.

checks           paths and kinds of images, and the errors they raise
guarded          a reader in a child process, with limits of time and memory
nifti_header     fields of NIfTI-1 headers: read, judged, made
nifti_writing    .nii.gz, fast and in parts
nifti_field      displacement fields as NIfTI
itk_transform    ITK's transforms: read and checked, as matrices, on points and grids
points           landmark pairs, tables of points, 3D Slicer's markups
"""
